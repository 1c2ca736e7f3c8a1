package daemon

import (
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/sdnotify"
)

// mostStatus limits the words of a failure in the line that `systemctl status` shows, in bytes.
const mostStatus = 200

// condition is how a certificate was after its last pass, for `systemctl status`.
type condition struct {
	fails   string    // what failed, in words; "" if nothing did
	since   time.Time // when that began, as far as this daemon knows
	expires time.Time // the first of its certificates; zero if there is none
	renews  time.Time // zero if that is not known
}

// observe keeps how a certificate is after a pass, and shows the worst.
func (d *Daemon) observe(o *order, result report.Certificate) {
	asked := o.options.DeployOnly || o.options.Rollback
	if asked && result.Error != nil {
		return // the command shows it; that it was refused says nothing about the certificate
	}
	c := condition{}
	for _, key := range result.Keys {
		if c.expires.IsZero() || key.NotAfter.Before(c.expires) {
			c.expires = key.NotAfter
		}
	}
	if result.NextRenewal != nil {
		c.renews = *result.NextRenewal
	}
	d.mu.Lock()
	before := d.conditions[o.want.Name]
	if result.Error != nil {
		c.fails, c.since = finding.Quote(result.Error.Message, mostStatus), time.Now()
		if before.fails != "" {
			c.since = before.since
		}
		if before.fails != "" && result.Error.Kind == "backoff" {
			c.fails = before.fails // it says only that mxcert waits because of that
		}
	}
	d.conditions[o.want.Name] = c
	d.mu.Unlock()
	d.showCondition(false)
}

// showCondition tells systemd how the worst certificate is, if that has changed, or in any case.
func (d *Daemon) showCondition(always bool) {
	d.mu.Lock()
	text := d.conditionText()
	same := text == d.shown
	d.shown = text
	d.mu.Unlock()
	if always || !same {
		d.notify(sdnotify.Status(text))
	}
}

// conditionText says how the worst certificate is. The caller holds d.mu.
func (d *Daemon) conditionText() string {
	if d.status.ConfigError != "" {
		return "bad configuration, the old one stays in force: " + report.OneLine(d.status.ConfigError)
	}
	var worst, first string
	known, failing := 0, 0
	certificates := d.workload.runner.Host.Certificates
	for _, want := range certificates {
		c, ok := d.conditions[want.Name]
		if !ok {
			continue
		}
		if known++; c.fails != "" {
			failing++
			if worst == "" || c.expires.Before(d.conditions[worst].expires) {
				worst = want.Name
			}
		}
		if !c.renews.IsZero() && (first == "" || c.renews.Before(d.conditions[first].renews)) {
			first = want.Name
		}
	}
	n := len(certificates)
	text := fmt.Sprintf("%d %s", n, report.Plural(n, "certificate"))
	switch {
	case failing > 0:
		return failureText(worst, d.conditions[worst], failing, text)
	case known == n && first != "":
		text += fmt.Sprintf(", all is well; next renewal: %s, %s", first, report.Minute(d.conditions[first].renews))
	}
	return text
}

// failureText describes the worst of the certificates that fail.
func failureText(name string, c condition, failing int, all string) string {
	text := fmt.Sprintf("%s fails since %s: %s", name, report.Minute(c.since), c.fails)
	switch {
	case c.expires.IsZero():
		text += "; it has no certificate yet"
	case time.Now().After(c.expires):
		text += "; its certificate expired at " + report.Minute(c.expires)
	default:
		text += "; its certificate expires at " + report.Minute(c.expires)
	}
	if failing > 1 {
		text += fmt.Sprintf("; %d of %s fail", failing, all)
	}
	return text
}

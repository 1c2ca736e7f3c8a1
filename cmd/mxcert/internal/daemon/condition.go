package daemon

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/journal"
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
	tlsa    bool      // senders with DANE would not accept it, or a person has to fix something about its TLSA records
	next    time.Time // when a failure is tried again; zero if that is not known
	waits   string    // what it waits for besides its renewal, as a predicate; "" if for nothing
	without []string  // optional names that the certificate does not have, because they could not be proven
}

// observe keeps how a certificate is after a pass, and shows the worst.
func (d *Daemon) observe(o *order, result report.Certificate) {
	if o.refused(result) {
		return
	}
	c := condition{tlsa: result.TLSA.Fault(), waits: waitOf(result)}
	for _, key := range result.Keys {
		if c.expires.IsZero() || key.NotAfter.Before(c.expires) {
			c.expires = key.NotAfter
		}
	}
	for _, l := range result.LeftOut {
		c.without = append(c.without, l.Name)
	}
	if result.NextRenewal != nil {
		c.renews = *result.NextRenewal
	}
	d.mu.Lock()
	before := d.conditions[o.want.Name]
	if waiting := (result.Limited || result.Elsewhere) && !result.OutOfService && !c.expires.IsZero() && before.fails == ""; result.Error != nil && !waiting {
		if result.NextTry != nil {
			c.next = *result.NextTry
		}
		c.fails, c.since = finding.Quote(result.Error.Message, mostStatus), time.Now()
		if before.fails != "" {
			c.since = before.since
		}
		if before.fails != "" && result.Error.Kind == "backoff" {
			c.fails = before.fails // it says only that mxcert waits because of that
		}
	}
	d.conditions[o.want.Name] = c
	first := o.workload != nil && !o.workload.looked && d.knowsAll()
	if first {
		o.workload.looked = true
	}
	text := d.conditionText()
	d.mu.Unlock()
	d.showCondition(false)
	if first {
		d.log.Info("all certificates have been looked at", "state", text, journal.LookedAt.Attr())
	}
}

// knowsAll reports whether each certificate of the configuration in force had a pass. The caller holds d.mu.
func (d *Daemon) knowsAll() bool {
	for _, want := range d.workload.runner.Host.Certificates {
		if _, ok := d.conditions[want.Name]; !ok {
			return false
		}
	}
	return true
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
func (d *Daemon) conditionText() string { return d.stateText() + d.slowText() }

func (d *Daemon) stateText() string {
	if d.status.ConfigError != "" {
		return "bad configuration, the old one stays in force: " + report.OneLine(d.status.ConfigError)
	}
	if d.workload == nil {
		return "" // no configuration is in force yet
	}
	var worst, first, lacking string
	known, failing := 0, 0
	certificates := d.workload.runner.Host.Certificates
	for _, want := range certificates {
		c, ok := d.conditions[want.Name]
		if !ok {
			continue
		}
		if c.tlsa && lacking == "" {
			lacking = fmt.Sprintf("; %s has a TLSA fault: mxcert tlsa check %s", want.Name, finding.Word(want.Name))
		}
		if len(c.without) > 0 && lacking == "" {
			lacking = fmt.Sprintf("; %s is without %s", want.Name, strings.Join(c.without, ", "))
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
		how := ", all is well"
		if lacking != "" {
			how = ", all are in service"
		}
		text += fmt.Sprintf("%s; next renewal: %s, %s%s", how, first, report.Minute(d.conditions[first].renews), finding.Quote(lacking, mostStatus)) + d.waitText()
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
	if time.Now().Before(c.next) {
		text += "; the next try is at " + report.Minute(c.next)
	}
	if failing > 1 {
		text += fmt.Sprintf("; %d of %s fail", failing, all)
	}
	return text
}

// mostNames limits the names in a line of the log.
const mostNames = 10

// certificateNames lists the certificates for the log.
func certificateNames(host *wanted.Host) string {
	var names []string
	for i, c := range host.Certificates {
		if i == mostNames {
			names = append(names, fmt.Sprintf("and %d more", len(host.Certificates)-i))
			break
		}
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

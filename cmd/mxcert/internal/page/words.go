package page

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// mark says in one or two words how something is; the sign and the word say what the colour says.
type mark struct{ class, sign, word string }

func (m mark) show() *element {
	return el("span", class(strings.TrimSpace("mark "+m.class)), el("span", is("aria-hidden", "true"), say("%s ", m.sign)), text(m.word))
}

// markOf says how a certificate is.
func markOf(c Certificate) mark {
	r := c.Report
	_, over := expired(c)
	switch {
	case c.Looked.IsZero():
		return mark{"", "?", "not looked at"}
	case over:
		return mark{"bad", "✗", "expired"}
	case r.TLSA.Fault() && r.Code == report.CodeOK:
		return mark{"bad", "✗", "TLSA fault"}
	case r.Code == report.CodeTemporary:
		return mark{"warn", "…", "waiting"}
	case r.Code != report.CodeOK && (r.Stage == report.Served || r.Stage == report.Deployed):
		return mark{"bad", "✗", string(r.Stage) + ", with a fault"}
	case r.Code != report.CodeOK && r.Stage == report.Issued:
		return mark{"bad", "✗", "not in service"}
	case r.Code != report.CodeOK:
		return mark{"bad", "✗", string(r.Stage)}
	case len(r.Missing) > 0 || len(r.LeftOut) > 0:
		return mark{"warn", "!", fmt.Sprintf("%s, %d %s missing", r.Stage, len(r.Missing)+len(r.LeftOut), report.Plural(len(r.Missing)+len(r.LeftOut), "name"))}
	}
	return mark{"good", "✓", string(r.Stage)}
}

// rank orders certificates: what needs a person comes first.
func rank(c Certificate) int {
	switch markOf(c).class {
	case "bad":
		return 0
	case "warn":
		return 1
	case "":
		return 2
	}
	return 3
}

// headline says at once whether all is well.
type headline struct {
	mark
	lead string
}

func headlineOf(s Sight) headline {
	faults, warnings, unseen, count := 0, 0, 0, len(s.Certificates)
	for _, a := range s.Alarms {
		if a.Severity == finding.Error {
			faults++
		} else {
			warnings++
		}
	}
	inService := 0
	for _, c := range s.Certificates {
		switch m := markOf(c); {
		case c.Looked.IsZero():
			unseen++
		case c.Report.Stage == report.Served, c.Report.Stage == report.Deployed && c.Report.Code != report.CodeNotInService:
			inService++
		case m.class == "bad" && faults == 0: // its alarm is missing
			faults = 1
		}
	}
	h := headline{mark: mark{"good", "✓", "All is well"}}
	switch {
	case faults > 0:
		h.mark = mark{"bad", "✗", fmt.Sprintf("%d %s to fix", faults, report.Plural(faults, "fault"))}
	case unseen > 0:
		h.mark = mark{"", "?", "Not everything is known yet"}
	case warnings > 0:
		h.mark = mark{"warn", "!", fmt.Sprintf("%s, with %d %s", inServiceWord(inService, count), warnings, report.Plural(warnings, "warning"))}
	}
	h.lead = fmt.Sprintf("%d of %d %s in service.", inService, count, isOrAre(inService, count))
	if unseen > 0 {
		h.lead += fmt.Sprintf(" %d not looked at.", unseen)
	}
	return h
}

func inServiceWord(n, of int) string {
	if n == of {
		return "In service"
	}
	return fmt.Sprintf("%d of %d in service", n, of)
}

func isOrAre(n, of int) string {
	if of == 1 {
		return "certificate is"
	}
	if n == 1 {
		return "certificates is"
	}
	return "certificates are"
}

// The times after which a page is stale.
const (
	// Hourly is how often the daemon makes a page at least.
	Hourly     = time.Hour
	staleAfter = 2 * Hourly // a pass may take half an hour
	staleRun   = 24 * time.Hour
)

// madeBy says when and by whom the page was made, and how a reader notices that it is stale. The page cannot know what time it is then.
func madeBy(s Sight) parts {
	list := parts{text("This page was made at "), moment(s.At)}
	switch s.Maker {
	case ByDaemon:
		return append(list, text(" by the daemon, which makes it again at least once an hour. If it is later than "), moment(s.At.Add(staleAfter)),
			text(" now, this page is stale: the daemon does not run, or cannot write it. See "), el("code", text("systemctl status mxcert")), text("."))
	case ByRun:
		return append(list, text(" by mxcert renew; each run makes it again. If a timer runs it twice a day and it is later than "), moment(s.At.Add(staleRun)),
			text(" now, this page is stale: the timer does not run. See "), el("code", text("systemctl status mxcert-renew.timer")), text("."))
	}
	return append(list, text(" by the command mxcert report. Nothing makes it again: it says how things were then."))
}

// left says how much time is left until an instant, as of when the page was made.
func left(at, now time.Time) string {
	d := at.Sub(now)
	switch {
	case d <= 0:
		return "expired"
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours left", int(d.Hours()))
	}
	return fmt.Sprintf("%d days left", int(d.Hours()/24))
}

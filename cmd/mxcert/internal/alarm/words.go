package alarm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/notify"
)

// titles say in a few words what is wrong, and that it is over.
var titles = map[string][2]string{ //nolint:gochecknoglobals // a constant table
	"configuration":          {"the configuration is broken", "the configuration is good again"},
	"account-refused":        {"the CA refuses the account", "the CA accepts the account again"},
	"account-replaced":       {"the ACME account was replaced", "the ACME account is the old one again"},
	"renewal-failed":         {"the renewal fails", "the renewal works again"},
	"pass-failed":            {"mxcert cannot work", "mxcert works again"},
	"not-in-service":         {"not in service", "in service again"},
	"expiring":               {"the certificate expires soon", "the certificate is renewed"},
	"expired":                {"the certificate has expired", "the certificate is renewed"},
	"drift":                  {"something keeps changing the files", "the files stay as mxcert wrote them"},
	"hook-failed":            {"a hook fails", "the hooks work again"},
	"dane-gate":              {"DANE holds a change back", "DANE holds nothing back any more"},
	"tlsa-mismatch":          {"TLSA records do not fit what is served", "the TLSA records fit again"},
	"tlsa-blocked":           {"the TLSA records need you", "the TLSA records are in order again"},
	"tlsa-late":              {"a change of TLSA records takes longer than planned", "the TLSA records are up to date"},
	ocspRevoked:              {"the CA has revoked the certificate", "the certificate in service is not revoked"},
	ocspResponse:             {"no valid OCSP response comes", "there is a valid OCSP response again"},
	ocspNotSent:              {"the server does not send the OCSP response", "the server sends the OCSP response again"},
	ocspWaits:                {"the new certificate waits for its OCSP response", "the new certificate is in service"},
	ocspUseless:              {"the certificate has no OCSP", "the certificate has OCSP again"},
	"name-left-out":          {"a name is left out", "the name is back"},
	fleetAway:                {"the store of the fleet cannot be used", "the store of the fleet can be used again"},
	fleetFault:               {"the store of the fleet holds something forged or damaged", "the store of the fleet holds nothing forged any more"},
	"ct-source":              {"the logs of certificates cannot be looked at", "the logs of certificates can be looked at again"},
	"ct-ours":                {"files of ct.ours cannot be read", "the files of ct.ours can be read again"},
	"ct-unknown-certificate": {"a certificate that mxcert did not order", "the certificate that mxcert did not order is gone"},
}

// bySource are the titles of other findings.
var bySource = map[string][2]string{ //nolint:gochecknoglobals // a constant table
	"senders": {"senders meet a fault", "senders do not meet the fault any more"},
	"tlsrpt":  {"senders report failures", "senders report the failures no more"},
}

// title says what a matter is, or that it is over.
func title(m Matter, over bool) string {
	pair, ok := titles[m.ID]
	if !ok {
		pair, ok = bySource[m.Source]
	}
	if !ok {
		pair = [2]string{m.ID, m.ID + " is over"}
	}
	if over {
		return pair[1]
	}
	return pair[0]
}

const (
	// columns is the width of a message.
	columns = 78
	// mostParts limits the matters that a message describes, and mostListed the certificates that each lists.
	mostParts, mostListed = 10, 100
	// fewListed is how many certificates the text lists.
	fewListed = 3
)

// part is the matters of one group.
type part struct {
	lead         *entry // the first of them
	certificates []string
	n            int // matters
}

// compose writes a message about matters.
func compose(event notify.Event, host string, list []*entry, now time.Time) notify.Message {
	m := notify.Message{Version: 1, Host: host, Event: event, At: now, Matters: []notify.Matter{}}
	parts := partsOf(list)
	var text strings.Builder
	for i, p := range parts {
		if i == mostParts {
			fmt.Fprintf(&text, "and %d more; mxcert status shows all\n\n", len(parts)-i)
			break
		}
		m.Matters = append(m.Matters, p.matter(event))
		p.write(&text, event, now)
	}
	text.WriteString(report.Fold(footer(host, parts), 0, 0, columns) + "\n")
	m.Subject, m.Text = subject(event, host, parts), text.String()
	return m
}

// partsOf puts matters of one group together, the worst first.
func partsOf(list []*entry) (parts []*part) {
	by := map[string]*part{}
	for _, e := range list {
		p := by[e.group()]
		if p == nil {
			p = &part{lead: e}
			by[e.group()] = p
			parts = append(parts, p)
		}
		if p.n++; e.Since.Before(p.lead.Since) {
			p.lead = e
		}
		if e.Certificate != "" && !slices.Contains(p.certificates, e.Certificate) {
			p.certificates = append(p.certificates, e.Certificate)
		}
	}
	for _, p := range parts {
		slices.Sort(p.certificates)
	}
	slices.SortStableFunc(parts, func(a, b *part) int {
		return cmp.Or(worstFirst(a.lead.Matter, b.lead.Matter), a.lead.Since.Compare(b.lead.Since), cmp.Compare(a.lead.key(), b.lead.key()))
	})
	return parts
}

// matter is a part for programs.
func (p *part) matter(event notify.Event) notify.Matter {
	m := notify.Matter{ID: p.lead.ID, Severity: string(p.lead.Severity), Certificates: slices.Clone(p.certificates[:min(len(p.certificates), mostListed)]), Since: p.lead.Since, What: p.lead.What}
	if m.Certificates == nil {
		m.Certificates = []string{}
	}
	if event != notify.Recovered {
		m.Senders, m.Next = p.lead.Senders, p.lead.Next
	}
	return m
}

// who names the certificates of a part: a, b and 98 more.
func (p *part) who() string {
	names := p.certificates
	switch n := len(names); {
	case n == 0:
		return ""
	case n == 1:
		return names[0]
	case n <= fewListed:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:fewListed-1], ", "), len(names)-fewListed+1)
}

// headline says what a part is about.
func (p *part) headline(event notify.Event) string {
	text := title(p.lead.Matter, event == notify.Recovered)
	if who := p.who(); who != "" {
		text = who + ": " + text
	}
	return text
}

// write describes a part, as status does: what, since when, what senders see, and the next step.
func (p *part) write(out *strings.Builder, event notify.Event, now time.Time) {
	out.WriteString(report.Fold(p.headline(event), 0, 0, columns) + "\n")
	line := func(what, text string) {
		if text != "" {
			head := fmt.Sprintf("  %-9s  ", what)
			out.WriteString(head + report.Fold(text, len(head), len(head), columns) + "\n")
		}
	}
	since := report.Minute(p.lead.Since)
	if event == notify.Recovered {
		line("lasted", "from "+since+" to "+report.Minute(earliest(p.lead.Good, now)))
		line("it was", p.lead.What)
		out.WriteString("\n")
		return
	}
	line("since", since)
	line(string(p.lead.Severity), p.lead.What)
	if n := p.n - 1; n > 0 && len(p.certificates) <= 1 {
		line("", fmt.Sprintf("and %d more of this kind", n))
	}
	line("senders", withSee(p.lead.Senders))
	line("next step", p.lead.Next)
	if n := len(p.certificates); n > fewListed {
		shown := strings.Join(p.certificates[:min(n, mostListed)], ", ")
		if n > mostListed {
			shown += fmt.Sprintf(" and %d more", n-mostListed)
		}
		line("all", shown)
	}
	out.WriteString("\n")
}

func withSee(text string) string {
	if text == "" {
		return ""
	}
	return "see " + text
}

func earliest(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// footer says which host it is about, and where to read more.
func footer(host string, parts []*part) string {
	command := "mxcert status"
	if len(parts) == 1 && len(parts[0].certificates) == 1 {
		command += " " + finding.Word(parts[0].certificates[0])
	}
	return fmt.Sprintf("This is mxcert on %s. `%s` shows how it is now.", cmp.Or(host, "a host without a name"), command)
}

// mostSubject limits a subject, in bytes.
const mostSubject = 140

// subject sums a message up in a line.
func subject(event notify.Event, host string, parts []*part) string {
	text := parts[0].headline(event)
	if event == notify.Reminder {
		text = "still: " + text
	}
	if n := len(parts) - 1; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	if host != "" {
		text = host + ": " + text
	}
	return finding.Quote(text, mostSubject)
}

// dropped adds to a message how many were dropped before it.
func dropped(m notify.Message, n int) notify.Message {
	if m.More = n; n == 0 {
		return m
	}
	m.Subject = finding.Quote(fmt.Sprintf("%s (and %d more)", m.Subject, n), mostSubject+20)
	m.Text += report.Fold(fmt.Sprintf("And %d more: this channel could not deliver for a long time, and mxcert has dropped as many messages before this one.", n), 0, 0, columns) + "\n"
	return m
}

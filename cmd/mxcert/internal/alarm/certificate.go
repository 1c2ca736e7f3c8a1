package alarm

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
)

const (
	// fewLives is the part of a certificate's life from which it is about to expire.
	fewLives = 5
	// late is how long a change of TLSA records may take beyond its time before it counts as late.
	late = 2 * time.Hour
	// stuck is how long such a change may wait for something that has no time.
	stuck = 48 * time.Hour
	// fight is how long the files must stay unchanged until a fight over them counts as over: mxcert leaves them alone for an hour.
	fight = 75 * time.Minute
	// mostCause limits the cause of a matter, in bytes.
	mostCause = 160
)

// matters says what is wrong with a certificate after its last pass.
func matters(c tell.Certificate, now time.Time) []Matter {
	r := c.Report
	var list []Matter
	add := func(m Matter) {
		m.Source, m.Certificate, m.at = sourcePass, r.Name, c.At
		if m.Severity == "" {
			m.Severity = finding.Error
		}
		if m.Senders == "" {
			m.Senders = sendersSee(r, now)
		}
		list = append(list, m)
	}
	if m, failed := failure(r, now); failed {
		add(m)
	}
	if m, ends := expiry(r, now); ends {
		add(m)
	}
	for _, m := range tlsa(r, now) {
		add(m)
	}
	for _, m := range staples(r, now) {
		add(m)
	}
	for _, l := range r.LeftOut {
		add(Matter{ID: "name-left-out", Subject: l.Name, Cause: pattern(l.Reason, []string{l.Name}), Severity: finding.Warning, since: l.Since,
			What:    l.Name + " is left out: " + finding.Quote(l.Reason, mostText),
			Senders: "a certificate without this name: those who connect by it and check the name refuse it",
			Next:    fmt.Sprintf("let the name be proven, or remove it; mxcert tries again by itself, or at once with mxcert renew %s --now", finding.Word(r.Name))})
	}
	return list
}

// mostText limits what a failure says in a message, in bytes.
const mostText = 1200

// failure is why the last pass failed.
func failure(r report.Certificate, now time.Time) (Matter, bool) {
	e := r.Error
	waits := e != nil && e.Kind == "backoff"
	if waits {
		e = r.Failed // if nothing failed before, the order only waits for the limits of the CA
	}
	if e == nil || aboutStaple(e) {
		return Matter{}, false
	}
	m := Matter{found: r.Failures, waits: waits, What: e.Stage + ": " + finding.Quote(report.OneLine(e.Message), mostText), Next: finding.Quote(e.Hint, mostText), Cause: causeOf(e, r)}
	if e.Stage == "" {
		m.What = finding.Quote(report.OneLine(e.Message), mostText)
	}
	switch {
	case r.HeldOnly || e.Kind == "drift":
		m.ID, m.calm = "drift", fight
	case e.Kind == "dane":
		m.ID = "dane-gate"
		m.Senders = "what they saw before: mxcert changes nothing until senders that use DANE accept it"
	case e.Kind == "dane-unknown":
		m.ID, m.passes = "dane-gate", 2
	case e.Kind == "account":
		m.ID = "account-refused"
	case waitsForStaple(e):
		m.ID = ocspWaits
		if e.Kind != ocspRevoked && e.Kind != ocspUseless {
			m.Severity, m.age = finding.Warning, firstResponse
		}
	case e.Stage == "hook":
		m.ID, m.passes = "hook-failed", 2 // one of pre.d also keeps the renewal from starting
	case r.OutOfService || r.Code == report.CodeNotInService || slices.Contains([]string{"deploy", "reload", "verify"}, e.Stage):
		m.ID = "not-in-service"
	case slices.Contains([]string{"", "state", "store", "lock"}, e.Stage):
		m.ID, m.passes = "pass-failed", 2
	default:
		m.ID, m.passes = "renewal-failed", 2
	}
	if urgent(r, now) {
		m.passes, m.age = 0, 0
	}
	return m, true
}

// ofTheCA are kinds of errors that all orders at a CA have in common.
var ofTheCA = []string{"ca-unreachable", "ca-error", "account", "clock"} //nolint:gochecknoglobals // a constant table

// causeOf says why a pass failed, in words that are the same for all certificates that fail for the same reason.
func causeOf(e *report.Error, r report.Certificate) string {
	if slices.Contains(ofTheCA, e.Kind) {
		return e.Kind
	}
	return e.Stage + " " + e.Kind + " " + pattern(e.Message, append([]string{r.Name}, r.Names...))
}

// pattern is a text without the words that differ between certificates: their names, and words with digits.
func pattern(text string, names []string) string {
	words := strings.Fields(text)
	for i, word := range words {
		own := slices.ContainsFunc(names, func(name string) bool {
			return name != "" && strings.Contains(strings.ToLower(word), strings.ToLower(strings.TrimPrefix(name, "*.")))
		})
		if own || strings.ContainsFunc(word, unicode.IsDigit) {
			words[i] = "…"
		}
	}
	return finding.Quote(strings.Join(words, " "), mostCause)
}

// first returns the certificate that expires first.
func first(r report.Certificate) (report.Key, bool) {
	if len(r.Keys) == 0 {
		return report.Key{}, false
	}
	return slices.MinFunc(r.Keys, func(a, b report.Key) int { return a.NotAfter.Compare(b.NotAfter) }), true
}

// urgent reports whether less than a fifth of a certificate's life is left.
func urgent(r report.Certificate, now time.Time) bool {
	k, ok := first(r)
	return ok && k.NotAfter.Sub(now)*fewLives < k.NotAfter.Sub(k.NotBefore)
}

// expiry says that a certificate is about to expire, or has.
func expiry(r report.Certificate, now time.Time) (Matter, bool) {
	k, _ := first(r)
	next := fmt.Sprintf("mxcert doctor %s tests everything that a renewal needs", finding.Word(r.Name))
	if r.Error != nil && r.Error.Hint != "" {
		next = finding.Quote(r.Error.Hint, mostText)
	}
	why := ""
	if e := r.Error; e != nil {
		why = "; " + e.Stage + ": " + finding.Quote(report.OneLine(e.Message), mostText)
	}
	switch {
	case !urgent(r, now):
		return Matter{}, false
	case !now.Before(k.NotAfter):
		return Matter{ID: "expired", Cause: "expired", since: k.NotAfter, instead: "expiring", Next: next,
			What:    fmt.Sprintf("the %s certificate with serial %s expired at %s%s", k.Key, k.Serial, report.Minute(k.NotAfter), why),
			Senders: "an expired certificate: those who check certificates keep the mail in their queues"}, true
	}
	return Matter{ID: "expiring", Cause: "expiring", since: k.NotAfter.Add(-k.NotAfter.Sub(k.NotBefore) / fewLives), Next: next,
		What: fmt.Sprintf("the %s certificate with serial %s expires at %s, and less than a fifth of its life is left%s", k.Key, k.Serial, report.Minute(k.NotAfter), why)}, true
}

// tlsa says what is wrong with the TLSA records.
func tlsa(r report.Certificate, now time.Time) (list []Matter) {
	t := r.TLSA
	if t == nil {
		return nil
	}
	next := "mxcert tlsa check " + finding.Word(r.Name) + " shows what to do"
	for _, o := range t.Owners {
		if o.Matches != nil && !*o.Matches {
			list = append(list, Matter{ID: "tlsa-mismatch", Subject: o.Owner, Cause: pattern(o.Reason, []string{o.Host}), Next: next,
				What:    o.Owner + ": " + finding.Quote(o.Reason, mostText),
				Senders: "a key that the TLSA records do not name: those who use DANE keep the mail in their queues"})
		}
	}
	const blocked, steady = "blocked", "steady"
	m := Matter{What: "the TLSA records are " + t.State + ": " + finding.Quote(t.WaitingFor, mostText), Cause: pattern(t.State+" "+t.WaitingFor, slices.Concat(r.Names, []string{r.Name})), Next: next}
	switch {
	case t.State == blocked && len(list) == 0:
		m.ID, m.passes = "tlsa-blocked", 2
	case t.State == blocked, t.State == steady, t.WaitingFor == "":
		return list
	case t.Until == nil:
		m.ID, m.Severity, m.age = "tlsa-late", finding.Warning, stuck
	case now.Sub(*t.Until) > late:
		m.ID, m.Severity = "tlsa-late", finding.Warning
	default:
		return list
	}
	return append(list, m)
}

// sendersSee says what a sender gets; "" if that is not known.
func sendersSee(r report.Certificate, now time.Time) string {
	k, ok := first(r)
	for _, e := range r.Endpoints {
		switch {
		case e.Error != "":
			return e.Address + ": " + finding.Quote(e.Error, mostText)
		case !e.Matches:
			return fmt.Sprintf("another certificate at %s, with serial %s", e.Address, e.Serial)
		}
	}
	switch {
	case !ok:
		return ""
	case !now.Before(k.NotAfter):
		return "an expired certificate: those who check certificates keep the mail in their queues"
	case len(r.Endpoints) > 0:
		return "a valid certificate, until " + report.Minute(k.NotAfter)
	case r.Stage == report.Issued || r.OutOfService:
		return ""
	}
	return "a certificate that is valid until " + report.Minute(k.NotAfter) + ", if the server uses the files"
}

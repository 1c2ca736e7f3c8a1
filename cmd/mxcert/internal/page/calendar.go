package page

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// Calendar writes the dates that a person may want in a calendar (RFC 5545): when certificates expire, with a reminder, when mxcert renews
// them, and when something changes about TLSA records.
//
// The UID of an event stays the same when its date moves, so that a program that reads the calendar again moves the event. There is no
// SEQUENCE: nobody is invited, and DTSTAMP says which version is the newest (RFC 5545 section 3.8.7.2).
func Calendar(w io.Writer, s Sight) error {
	c := ics.NewCalendarFor("mxcert")
	c.SetVersion("2.0")
	c.SetProductId("-//mxcert//mxcert " + plainWord(s.Release) + "//EN")
	c.SetMethod(ics.MethodPublish)
	c.SetXWRCalName("Certificates of " + finding.Quote(s.Host, 255))
	for _, one := range s.Certificates {
		for _, d := range datesOf(one.Report) {
			if slices.Contains([]string{"expiry", "renewal", "tlsa", "signature"}, d.kind) {
				addEvent(c, s, one.Report, d)
			}
		}
	}
	return c.SerializeTo(w, ics.WithNewLineWindows)
}

// addEvent adds a date to a calendar.
func addEvent(c *ics.Calendar, s Sight, r report.Certificate, d date) {
	host := plainWord(s.Host)
	id := strings.Join(slices.DeleteFunc([]string{"mxcert", d.kind, plainWord(d.key), plainWord(d.name)}, func(w string) bool { return w == "" }), "-")
	e := c.AddEvent(id + "@" + host)
	e.SetDtStampTime(s.At)
	e.SetStartAt(d.at)
	e.SetTimeTransparency(ics.TransparencyTransparent) // it takes nobody's time
	e.SetSummary(finding.Quote(summaryOf(d, s.Host), 300))
	e.SetDescription(describe(r, d))
	e.SetProperty(ics.ComponentPropertyCategories, "mxcert")
	if d.kind != "expiry" {
		return
	}
	alarm := e.AddAlarm()
	alarm.SetAction(ics.ActionDisplay)
	alarm.SetTrigger(reminder(r, d.key))
	alarm.SetDescription(finding.Quote(summaryOf(d, s.Host)+": mxcert should have renewed it by now", 300))
}

// summaryOf says in a few words what happens.
func summaryOf(d date, host string) string {
	switch d.kind {
	case "expiry":
		return fmt.Sprintf("Certificate %s (%s) of %s expires", d.name, d.key, host)
	case "renewal":
		return fmt.Sprintf("mxcert renews certificate %s of %s", d.name, host)
	case "tlsa":
		return fmt.Sprintf("TLSA records of certificate %s (%s) of %s: a wait ends", d.name, d.key, host)
	}
	return fmt.Sprintf("DNSSEC signature on the TLSA records of certificate %s of %s expires", d.name, host)
}

// describe says more about a date.
func describe(r report.Certificate, d date) string {
	lines := []string{finding.Quote(report.OneLine(d.what), mostText)}
	if len(r.Names) > 0 {
		names := strings.Join(r.Names[:min(len(r.Names), 5)], ", ")
		if more := len(r.Names) - 5; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, "Names: "+finding.Quote(names, mostText))
	}
	if i := slices.IndexFunc(r.Keys, func(k report.Key) bool { return k.Key == d.key }); i >= 0 {
		lines = append(lines, "Serial: "+finding.Quote(r.Keys[i].Serial, 64))
	}
	if d.kind == "expiry" {
		lines = append(lines, "After a renewal this date moves, if your calendar reads the file again.")
	}
	return strings.Join(lines, "\n")
}

// reminder says how long before the end of a certificate a calendar reminds: a fifth of its life. mxcert renews earlier.
func reminder(r report.Certificate, key string) string {
	before := 24 * time.Hour
	if i := slices.IndexFunc(r.Keys, func(k report.Key) bool { return k.Key == key }); i >= 0 {
		before = max(r.Keys[i].NotAfter.Sub(r.Keys[i].NotBefore)/5, time.Hour)
	}
	return fmt.Sprintf("-PT%dH", int(before.Hours()))
}

// plainWord keeps what can be part of a UID without thought.
func plainWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_", r) {
			return r
		}
		return '-'
	}, s)
}

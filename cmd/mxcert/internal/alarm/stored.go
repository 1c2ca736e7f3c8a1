package alarm

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// Stored returns what is wrong and what could not be delivered, as the process that sends notifications has stored it. Nothing is stored if no
// channel is configured. names are the certificates that matter; all if there are none. What is about the host always matters.
func Stored(store *state.Book, names []string) (alarms []report.Alarm, undelivered []report.Undelivered, err error) {
	var read Book
	if err := store.Remembered(state.Alarms, &read); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	book := read.sound()
	var open []*entry
	for _, e := range book.Entries {
		if !e.Over && !e.Told.IsZero() && (e.Certificate == "" || len(names) == 0 || slices.Contains(names, e.Certificate)) {
			open = append(open, e)
		}
	}
	for _, p := range partsOf(open) {
		e := p.lead
		alarms = append(alarms, report.Alarm{ID: quote(e.ID), Severity: quote(string(e.Severity)), Certificates: append([]string{}, p.certificates...), Since: e.Since,
			Title: quote(title(e.Matter, false)), What: quote(e.What), Senders: quote(e.Senders), Next: quote(e.Next), Told: e.Told, Gone: gone(open, e.group())})
	}
	for name, l := range book.Lanes {
		if !l.Failing.IsZero() {
			undelivered = append(undelivered, report.Undelivered{Channel: quote(name), Since: l.Failing, Error: quote(l.Error), Waiting: len(l.Queue)})
		}
	}
	slices.SortFunc(undelivered, func(a, b report.Undelivered) int { return strings.Compare(a.Channel, b.Channel) })
	return alarms, undelivered, nil
}

// gone says since when nothing of a group holds any more; zero if something does.
func gone(open []*entry, group string) (since time.Time) {
	for _, e := range open {
		switch {
		case e.group() != group:
		case e.Good.IsZero():
			return time.Time{}
		case e.Good.After(since):
			since = e.Good
		}
	}
	return since
}

// quote makes a text safe: root reads what the service's user can write.
func quote(text string) string { return finding.Quote(text, mostText) }

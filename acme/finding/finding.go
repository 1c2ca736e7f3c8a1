// Package finding describes one thing that was looked at, and what was found: the common answer of every room that inspects
// something, so that doctor, verify and check can print any of them. It also makes foreign text safe to print, and measures how
// similar two words are.
//
// A Finding is a value. It is not an error: an error ends an operation, a finding only describes. Which severities fail a
// command is the command's decision.
package finding

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Severity is how much a finding matters.
type Severity string

const (
	// OK means that the thing is right.
	OK Severity = "ok"
	// Warning does not make the operation in question fail, but a person should look at it.
	Warning Severity = "warning"
	// Error makes the operation in question fail: an order, a deployment, a delivery by a strict sender.
	Error Severity = "error"
)

// Finding is one thing that was looked at.
type Finding struct {
	ID       string   `json:"id"` // stable: lower case with dashes; an RFC 8460 result type if one fits
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject,omitempty"` // the DNS name, path, unit, endpoint or CA; "" if the ID says enough
	Message  string   `json:"message"`
	Hint     string   `json:"hint"` // what to do next; "" if there is nothing to do
}

// New returns a finding with a formatted message.
func New(id string, severity Severity, format string, values ...any) Finding {
	return Finding{ID: id, Severity: severity, Message: fmt.Sprintf(format, values...)}
}

// About returns a copy of f with a subject.
func (f Finding) About(subject string) Finding {
	f.Subject = subject
	return f
}

// Next returns a copy of f with a hint.
func (f Finding) Next(hint string) Finding {
	f.Hint = hint
	return f
}

// Worst returns the highest severity of a list; OK for an empty one.
func Worst(list []Finding) Severity {
	worst := OK
	for _, f := range list {
		if f.Severity == Error || f.Severity == Warning && worst == OK {
			worst = f.Severity
		}
	}
	return worst
}

// MostQuoted is the limit, in bytes, for text whose useful length is not known.
const MostQuoted = 300

// Quote makes text from a peer, a file or a program safe for messages and logs: one line, only printable characters (no
// terminal sequences, and none that change the direction of writing), valid UTF-8, and at most most bytes, cut with an
// ellipsis. White space of any kind becomes a single space.
func Quote(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// Quoted is Quote between quotation marks, as in a sentence: the server answered "…".
func Quoted(text string, most int) string { return `"` + Quote(text, most) + `"` }

// Line returns the message of an error of this program on one line: it separates joined errors by semicolons. Unlike Quote it
// cuts nothing, because such messages quote foreign text already.
func Line(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Duration writes a length of time for people: in days if it is two or more whole days, and without zeros at its end.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	text := d.Round(time.Second).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Word returns foreign text as one word of a command line that a person may copy into a shell. Names from DNS may contain what a shell obeys.
func Word(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+", r)
	}
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

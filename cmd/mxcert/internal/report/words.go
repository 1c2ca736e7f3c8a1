package report

import (
	"fmt"
	"strings"
	"time"
)

// Minute formats a time for a person, to the minute, in UTC.
func Minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Second formats a time for a person, to the second, in UTC.
func Second(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Until says how far away an instant is, in a unit that suits a person.
func Until(t time.Time) string {
	d := time.Until(t)
	if d < 0 {
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}

// OneLine puts a message of several errors on one line.
func OneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// Plural returns a noun as it is written after a number.
func Plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

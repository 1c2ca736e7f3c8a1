package cli

import (
	"fmt"
	"strings"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/alarm"
	"mxcert/cmd/mxcert/internal/report"
)

// addAlarms adds what people are told about the certificates of those names, or about all, and which channels could not deliver.
func addAlarms(r *report.Report, store *state.Book, names []string) {
	var err error
	if r.Alarms, r.Undelivered, err = alarm.Stored(store, names); err != nil {
		r.Alarms, r.Undelivered = nil, nil // the process that sends them reports it
	}
}

// mostShown limits the names in a line about an alarm.
const mostShown = 5

// printAlarms says what people are told, and which channels could not deliver.
func printAlarms(out sheet, r *report.Report) {
	if len(r.Alarms)+len(r.Undelivered) == 0 {
		return
	}
	fmt.Fprintln(out)
	for _, a := range r.Alarms {
		text := a.Title
		if n := len(a.Certificates); n > 0 {
			who := strings.Join(a.Certificates[:min(n, mostShown)], ", ")
			if n > mostShown {
				who += fmt.Sprintf(" and %d more", n-mostShown)
			}
			text = who + ": " + text
		}
		gone := ""
		if !a.Gone.IsZero() {
			gone = fmt.Sprintf("; not found any more since %s, and over if it stays so", report.Minute(a.Gone))
		}
		out.line("alarm", "%s, since %s; told at %s%s", text, report.Minute(a.Since), report.Minute(a.Told), gone)
	}
	for _, u := range r.Undelivered {
		text := fmt.Sprintf("%s: not delivered since %s: %s", u.Channel, report.Minute(u.Since), u.Error)
		if u.Waiting > 0 {
			text += fmt.Sprintf("; %d %s", u.Waiting, map[bool]string{true: "message waits", false: "messages wait"}[u.Waiting == 1])
		}
		out.line("warning", "%s", text)
	}
}

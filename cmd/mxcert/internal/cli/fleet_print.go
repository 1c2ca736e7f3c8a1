package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	// widestHost is where the name of a host is cut off, so that its line fits on 80 columns.
	widestHost = 30
	// mostWell is how many hosts that are alive, or serve the newest certificate, have a line of their own.
	mostWell = 8
)

// printFleet prints how the store is, the hosts, and for each certificate how far each host is with it.
func printFleet(out sheet, r *fleetReport, now time.Time) {
	fmt.Fprintf(out, "fleet %s, seen from %s\n", r.Fleet, r.Host)
	printEngine(out, r)
	if r.Engine.Up {
		printFleetHosts(out, r.Hosts, now)
	} else {
		printLastSeen(out, r)
	}
	for _, c := range r.Certificates {
		printFleetCertificate(out, c)
	}
	if len(r.Certificates) == 0 {
		fmt.Fprintln(out)
		out.text(2, "No host has said anything about a certificate yet.")
	}
}

func printEngine(out sheet, r *fleetReport) {
	e := r.Engine
	since := ""
	if e.Since != nil {
		since = " since " + report.Minute(*e.Since)
	}
	if e.Up {
		out.line("store", "answers%s", since)
	} else {
		out.line("error", "the store cannot be used%s: %s", since, e.Reason)
		if e.Hint != "" {
			out.line("next step", "%s", e.Hint)
		}
		out.line("", "What follows is what this host knew before. Mail is served as before.")
	}
	for _, fault := range r.Faults {
		out.line("error", "%s", fault)
	}
}

// column is one column of a table.
type column struct {
	title string
	cells []string
}

func (c column) width() int {
	w := utf8.RuneCountInString(c.title)
	for _, cell := range c.cells {
		w = max(w, utf8.RuneCountInString(cell))
	}
	return w
}

// printColumns prints columns, with a text below each line that has one. Lines are indented.
func printColumns(out sheet, indent string, columns []column, below []string) {
	row := func(cell func(column) string) {
		line := indent
		for _, c := range columns {
			text := cell(c)
			line += text + strings.Repeat(" ", c.width()-utf8.RuneCountInString(text)+2)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	row(func(c column) string { return c.title })
	for i := range columns[0].cells {
		row(func(c column) string { return c.cells[i] })
		if i < len(below) && below[i] != "" {
			fmt.Fprint(out, indent+"  ")
			out.rest(len(indent)+2, below[i])
		}
	}
}

func printFleetHosts(out sheet, hosts []fleetHost, now time.Time) {
	if len(hosts) == 0 {
		return
	}
	columns := []column{{title: "HOST"}, {title: "STATE"}, {title: "SEEN"}, {title: "VERSION"}, {title: "RECIPIENT"}}
	alive := 0
	for _, h := range hosts {
		if h.Alive {
			if alive++; alive > mostWell {
				continue
			}
		}
		seen := "-"
		if h.Seen != nil {
			seen = howOld(now.Sub(*h.Seen)) + " ago"
		}
		for i, cell := range []string{cut(h.Host, widestHost), map[bool]string{true: "alive", false: "away"}[h.Alive], seen, cut(orDash(h.Version), 12), cut(orDash(h.Recipient), 14)} {
			columns[i].cells = append(columns[i].cells, cell)
		}
	}
	fmt.Fprintln(out)
	printColumns(out, "", columns, nil)
	if alive > mostWell {
		fmt.Fprintf(out, "and %d more %s alive\n", alive-mostWell, map[bool]string{true: "is", false: "are"}[alive-mostWell == 1])
	}
}

// printLastSeen prints the hosts while the store is away: nobody knows which of them are at work.
func printLastSeen(out sheet, r *fleetReport) {
	if len(r.Hosts) == 0 {
		return
	}
	columns := []column{{title: "HOST"}, {title: "LAST SEEN"}}
	for _, h := range r.Hosts {
		seen := "-"
		switch {
		case h.Host == r.Host:
			seen = "this host"
		case h.Seen != nil:
			seen = report.Minute(*h.Seen)
		}
		columns[0].cells, columns[1].cells = append(columns[0].cells, cut(h.Host, widestHost)), append(columns[1].cells, seen)
	}
	fmt.Fprintln(out)
	printColumns(out, "", columns, nil)
}

func printFleetCertificate(out sheet, c fleetCertificate) {
	fmt.Fprintln(out)
	head := c.Name + " " + c.Key
	if c.Serial == "" {
		out.text(2, "%s: no host has ordered it yet", head)
	} else {
		head += fmt.Sprintf(": generation %d, serial %s", c.Generation, cut(c.Serial, 14))
		if c.NotAfter != nil {
			head += ", until " + c.NotAfter.Format(time.DateOnly)
		}
		if c.Host != "" {
			head += ", ordered by " + c.Host
		}
		out.text(2, "%s", head)
	}
	columns := []column{{title: "HOST"}, {title: "WANTED"}, {title: "ON DISK"}, {title: "SERVED"}, {title: "AGE"}}
	var below []string
	well := 0
	for _, h := range c.Hosts {
		if h.Matches && h.Reason == "" {
			if well++; well > mostWell {
				continue
			}
		}
		for i, cell := range []string{cut(h.Host, widestHost), map[bool]string{true: "yes", false: "no"}[h.Wanted], which(h.OnDisk, c.Serial), which(h.Served, c.Serial), howOld(time.Duration(h.Age) * time.Second)} {
			columns[i].cells = append(columns[i].cells, cell)
		}
		below = append(below, h.Reason)
	}
	if len(columns[0].cells) > 0 {
		printColumns(out, "  ", columns, below)
	}
	if well > mostWell {
		fmt.Fprintf(out, "  and %d more %s the newest one\n", well-mostWell, map[bool]string{true: "serves", false: "serve"}[well-mostWell == 1])
	}
}

// which says what a serial is, beside the newest one.
func which(serial, newest string) string {
	switch serial {
	case "":
		return "-"
	case newest:
		return "newest"
	}
	return "another"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// cut shortens a text that is too long for its column.
func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// howOld says how old something is, in few characters.
func howOld(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mxcert/cmd/mxcert/internal/report"
)

// finishTable prints a report on several certificates with one line for each, and chooses the exit code.
func (a *app) finishTable(r *report.Report) error {
	return a.finish(answer{document: r, changed: r.Changed, code: r.ExitCode(), print: func(out sheet) {
		printDaemon(out, r.Daemon, r.ConfigError != "", a.version)
		printFleetHealth(out, r.Fleet)
		printTable(out, r.Certificates, time.Now())
		printAlarms(out, r)
	}})
}

// cells are one line of the table.
type cells [5]string

// printTable prints one line for each certificate: first those with a fault, the worst first, then the others in the order of the
// configuration. Below the table it says what is wrong.
func printTable(out sheet, certificates []report.Certificate, now time.Time) {
	sorted := slices.Clone(certificates)
	slices.SortStableFunc(sorted, func(a, b report.Certificate) int { return cmp.Compare(b.Code.Rank(), a.Code.Rank()) })
	lines := []cells{{"NAME", "STATE", "EXPIRES", "RENEWS", "NAMES"}}
	for _, c := range sorted {
		lines = append(lines, cellsOf(c, now))
	}
	widths := widest(lines)
	for i, line := range lines {
		colour := ""
		if i > 0 {
			colour = colourOf(sorted[i-1])
		}
		printCells(out, line, widths, colour)
	}
	printFaults(out, sorted)
	printReportedAbout(out, sorted)
}

// printCells prints one line of the table, with the state in a colour. On a terminal, what
// is too long for the last column is cut off.
func printCells(out sheet, line cells, widths [len(cells{})]int, colour string) {
	used := 0
	for i, cell := range line[:len(line)-1] {
		if i == 1 && colour != "" {
			out.paint(cell, colour)
		} else {
			fmt.Fprint(out, cell)
		}
		fmt.Fprint(out, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		used += widths[i] + 2
	}
	last := []rune(line[len(line)-1])
	if room := max(out.width-used, len("NAMES")); out.terminal && len(last) > room {
		last = append(last[:room-1], '…')
	}
	fmt.Fprintln(out, string(last))
}

// cellsOf describes a certificate.
func cellsOf(c report.Certificate, now time.Time) cells {
	line := cells{c.Name, string(c.Stage), "-", "-", ""}
	if n := len(c.Missing); n > 0 {
		line[1] += fmt.Sprintf(", %d missing", n)
	}
	line[1] += tlsaMark(c.TLSA)
	if len(c.Keys) > 0 {
		first := slices.MinFunc(c.Keys, func(a, b report.Key) int { return a.NotAfter.Compare(b.NotAfter) })
		line[2] = expiryCell(first.NotAfter, now)
	}
	if c.NextRenewal != nil {
		line[3] = renewalCell(*c.NextRenewal, now)
	}
	if len(c.Names) > 0 {
		line[4] = c.Names[0]
	}
	if len(c.Names) > 1 {
		line[4] += fmt.Sprintf(" +%d", len(c.Names)-1)
	}
	return line
}

// soon is how near a moment has to be, so that hours say more than the date.
const soon = 48 * time.Hour

func expiryCell(at, now time.Time) string {
	left := at.Sub(now)
	switch {
	case left <= 0:
		return "expired"
	case left < soon:
		return report.Until(at)
	}
	return fmt.Sprintf("%s, %d days", at.UTC().Format(time.DateOnly), int(left.Hours()/24))
}

func renewalCell(at, now time.Time) string {
	wait := at.Sub(now)
	switch {
	case wait <= 0:
		return "now"
	case wait < soon:
		return report.Until(at)
	}
	return at.UTC().Format(time.DateOnly)
}

// widest returns the width of each column.
func widest(lines []cells) (widths [len(cells{})]int) {
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// printFaults says what is wrong, and where to read more.
func printFaults(out sheet, sorted []report.Certificate) {
	var warned []string
	for _, c := range sorted {
		switch {
		case c.Error != nil:
			fmt.Fprintf(out, "\n%s\n", c.Name)
			out.trouble(c.Error)
		case c.Code != report.CodeOK || len(c.Warnings) > 0:
			warned = append(warned, c.Name)
		}
	}
	if len(warned) > 0 {
		fmt.Fprintln(out)
		out.text(2, "warnings about %s: mxcert status NAME shows them", strings.Join(warned, ", "))
	}
}

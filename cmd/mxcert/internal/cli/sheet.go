package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"mxcert/cmd/mxcert/internal/report"
)

// sheet prints facts about one thing, one on each line: a word in its own column, then the fact. What is longer than the width goes on in
// the next line, below the fact.
type sheet struct {
	io.Writer
	width    int
	terminal bool                      // a terminal shows it
	paint    func(text, colour string) // writes a text in a colour
}

// sheet returns a sheet on standard output.
func (a *app) sheet() sheet {
	return sheet{Writer: a.stdout, width: a.stdout.width(), terminal: a.stdout.isTerminal(), paint: func(text, colour string) { a.paint(a.stdout, text, colour) }}
}

// line prints one fact. If it has several lines, the others are indented, so that no text looks like another fact.
func (s sheet) line(what, format string, values ...any) {
	head, colour := fmt.Sprintf("  %-12s ", what), ""
	switch what {
	case "error":
		colour = red
	case "warning":
		colour = yellow
	}
	if colour == "" {
		fmt.Fprint(s, head)
	} else {
		s.paint(head, colour)
	}
	s.rest(utf8.RuneCountInString(head), fmt.Sprintf(format, values...))
}

// text prints a text from the first column on. Its next lines start at indent.
func (s sheet) text(indent int, format string, values ...any) {
	_, _ = io.WriteString(s, fold(fmt.Sprintf(format, values...), 0, indent, s.width)+"\n")
}

// rest prints a text whose line has something in its first columns already. Its next lines start below it.
func (s sheet) rest(column int, text string) {
	_, _ = io.WriteString(s, fold(text, column, column, s.width)+"\n")
}

// trouble prints an error and what to do next. Records that have to be published first have lines of their own, from the first column on, so
// that they can be copied into a zone file. It prints nothing for nil.
func (s sheet) trouble(e *report.Error) {
	if e == nil {
		return
	}
	message := e.Message
	if len(e.Publish) > 0 {
		message = shortRecords(message)
	}
	s.line("error", "%s: %s", e.Stage, message)
	if len(e.Publish) > 0 {
		s.line("publish", "%s:", map[bool]string{true: "this TLSA record", false: "these TLSA records"}[len(e.Publish) == 1])
		fmt.Fprintln(s, strings.Join(e.Publish, "\n"))
	}
	if e.Hint != "" {
		s.line("next step", "%s", withoutRecords(e.Hint, e.Publish))
	}
}

// withoutRecords replaces records that stand above a hint already.
func withoutRecords(hint string, records []string) string {
	for _, between := range []string{" and ", "; "} {
		if list := strings.Join(records, between); list != "" {
			hint = strings.Replace(hint, list, map[bool]string{true: "this record", false: "these records"}[len(records) == 1], 1)
		}
	}
	return hint
}

// fold breaks a text at spaces, see [report.Fold].
func fold(text string, first, indent, width int) string {
	return report.Fold(text, first, indent, width)
}

// answer is the result of a command: what it found, whether it changed something, its exit code, and its text for a person.
type answer struct {
	document any // for --json
	changed  bool
	code     report.Code
	print    func(out sheet)
}

// finish prints an answer, as JSON or for a person, and returns the error that carries the exit code. With --quiet it prints nothing for a
// person if all is well.
func (a *app) finish(r answer) error {
	switch {
	case a.json:
		if err := a.printJSON(r.document); err != nil {
			return err
		}
	case !a.quiet || r.code != report.CodeOK:
		r.print(a.sheet())
	}
	if r.code == report.CodeOK && r.changed && a.detailedExit {
		r.code = report.CodeChanged
	}
	if r.code != report.CodeOK {
		return &report.Exit{Code: r.code}
	}
	return nil
}

// printJSON writes the one document of --json.
func (a *app) printJSON(v any) error {
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return err
	}
	return a.stdout.data(escaped(document.Bytes()))
}

// say prints a line of a result for a person.
func (a *app) say(format string, values ...any) error {
	if a.quiet || a.json {
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, format, values...)
	return err
}

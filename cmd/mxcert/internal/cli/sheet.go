package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
)

// sheet prints facts about one thing, one on each line: a word in its own column, then the fact.
type sheet struct{ io.Writer }

// line prints one fact. If it has several lines, the others are indented, so that no text looks like another fact.
func (s sheet) line(what, format string, values ...any) {
	fmt.Fprintf(s, "  %-12s %s\n", what, strings.ReplaceAll(fmt.Sprintf(format, values...), "\n", "\n               "))
}

// trouble prints an error and what to do next. It prints nothing for nil.
func (s sheet) trouble(e *report.Error) {
	if e == nil {
		return
	}
	s.line("error", "%s: %s", e.Stage, e.Message)
	if e.Hint != "" {
		s.line("next step", "%s", e.Hint)
	}
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
		r.print(sheet{a.stdout})
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
	_, err := a.stdout.Write(escaped(document.Bytes()))
	return err
}

// say prints a line of a result for a person.
func (a *app) say(format string, values ...any) error {
	if a.quiet || a.json {
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, format, values...)
	return err
}

package configs

import (
	"fmt"
	"strings"
)

// Problem is one fault, or one suspicious thing, in a configuration file.
type Problem struct {
	File    string `json:"file"`             // as it was given to Load, or conf.d beside it
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the file itself is the problem
	Column  int    `json:"column,omitempty"` // in characters, from 1
	Text    string `json:"text,omitempty"`   // the offending line, or the part around Column; secrets are asterisks
	Path    string `json:"path,omitempty"`   // e.g. certificates[0].deploy[1].exim.mode
	Message string `json:"message"`          // what is wrong, complete without Path
	Hint    string `json:"hint,omitempty"`   // what to do

	caret int      // column of the fault in Text
	cause error    // why the file could not be read
	about variable // a warning only if this holds a secret; zero for others
}

// String prints like a compiler: position and message, the line, a caret under the fault, the hint.
// It has no newline at the end.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	fmt.Fprintf(&b, ": %s", p.Message)
	if strings.TrimSpace(p.Text) != "" {
		fmt.Fprintf(&b, "\n%5d | %s\n      | %s^", p.Line, p.Text, p.padding())
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "\n    %s", p.Hint)
	}
	return b.String()
}

// padding returns the text before the caret. It is as wide as the text above it, even if that contains tabs.
func (p Problem) padding() string {
	runes := []rune(p.Text)
	pad := make([]rune, max(0, p.caret-1))
	for i := range pad {
		pad[i] = ' '
		if i < len(runes) && runes[i] == '\t' {
			pad[i] = '\t'
		}
	}
	return string(pad)
}

// Problems is the error of Load: everything that is wrong, in the order of the files.
type Problems struct {
	List []Problem

	more int // problems beyond those in List
}

// Error prints all problems, one after the other.
func (p *Problems) Error() string {
	lines := make([]string, 0, len(p.List)+1)
	for _, problem := range p.List {
		lines = append(lines, problem.String())
	}
	if p.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more problems", p.more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors of files that could not be read.
func (p *Problems) Unwrap() []error {
	var causes []error
	for _, problem := range p.List {
		if problem.cause != nil {
			causes = append(causes, problem.cause)
		}
	}
	return causes
}

// Hint is what to do about the first problem.
func (p *Problems) Hint() string {
	if len(p.List) == 0 {
		return ""
	}
	return p.List[0].Hint
}

// Kind is "configuration".
func (p *Problems) Kind() string { return "configuration" }

// Stage is "configuration".
func (p *Problems) Stage() string { return "configuration" }

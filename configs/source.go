package configs

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// source is one file: its name for messages and its lines.
type source struct {
	name     string
	text     []byte // without a byte order mark
	lines    []string
	fragment bool // a file of conf.d
}

func newSource(name string, data []byte) *source {
	text := strings.TrimPrefix(string(data), "\ufeff")
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	return &source{name: name, text: []byte(text), lines: lines}
}

// problem returns a Problem at a position.
func (s *source) problem(line, col int) Problem {
	return Problem{File: s.name, Line: line, Column: col}
}

// clamp moves a position into the file: the parser points beyond the end if something is missing there.
func (s *source) clamp(line, col int) (int, int) {
	line = max(1, min(line, len(s.lines)))
	for line > 1 && line == len(s.lines) && s.lines[line-1] == "" {
		line, col = line-1, math.MaxInt
	}
	return line, max(1, min(col, utf8.RuneCountInString(s.lines[line-1])+1))
}

// characters checks that the text consists of characters that YAML allows and that a reader can see.
// The YAML library reports these without a position, or reads them as something else.
func (s *source) characters() []Problem {
	var list []Problem
	for i, line := range s.lines {
		if p, ok := s.character(i+1, line); ok {
			list = append(list, p)
		}
		if !utf8.ValidString(line) || len(list) > maxProblems {
			break // the rest is of the same kind
		}
	}
	return list
}

// character returns the first problem of that kind in a line.
func (s *source) character(number int, line string) (Problem, bool) {
	col, indent := 0, true
	for i, r := range line {
		col++
		message, hint := "", "remove it"
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd"):
			message, hint = "this is not UTF-8 text", "save the file as UTF-8"
		case indent && unicode.IsSpace(r) && r > unicode.MaxASCII:
			message, hint = fmt.Sprintf("the line is indented with the character %U", r), "use plain spaces"
		case r == '\u2028' || r == '\u2029' || r == '\ufeff':
			message = fmt.Sprintf("invisible character %U", r)
		case unicode.IsControl(r) && r != '\t':
			message = fmt.Sprintf("control character %U", r)
		}
		if message != "" {
			p := s.problem(number, col)
			p.Message, p.Hint = message, hint
			return p, true
		}
		indent = indent && unicode.IsSpace(r)
	}
	return Problem{}, false
}

// tabs reports the lines that are indented with a tab.
func (s *source) tabs() []Problem {
	var list []Problem
	for i, line := range s.lines {
		rest := strings.TrimLeft(line, " \t")
		before, _, found := strings.Cut(line[:len(line)-len(rest)], "\t")
		if !found || rest == "" || rest[0] == '#' {
			continue
		}
		p := s.problem(i+1, len(before)+1)
		p.Message, p.Hint = "YAML does not allow tabs for indentation; use spaces", "replace each tab by two spaces"
		list = append(list, p)
	}
	return list
}

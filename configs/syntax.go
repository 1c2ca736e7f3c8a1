package configs

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parse turns a file into YAML nodes: nil for a file without values. It records the faults; ok is false if the checks cannot
// work without the file.
func (l *loader) parse(src *source) (root *yaml.Node, ok bool) {
	if list := src.characters(); len(list) > 0 {
		l.addAll(list)
		return nil, false
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src.text))
	if err != nil {
		l.addAll(src.syntaxProblems(err))
		return nil, false
	}
	var doc, next yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF) || err == nil && isEmpty(&doc):
		return nil, l.allowEmpty(src)
	case err != nil:
		l.addAll(src.syntaxProblems(err))
		return nil, false
	}
	switch err := loader.Load(&next); {
	case err == nil:
		p := src.problem(next.Line, next.Column)
		p.Message, p.Hint = "a second YAML document begins here; a configuration file has one", "remove the --- or ... line"
		l.add(p)
	case !errors.Is(err, io.EOF):
		l.addAll(src.syntaxProblems(err))
		return nil, false
	}
	return doc.Content[0], true
}

// allowEmpty reports whether a file may be empty: one of conf.d, whose lines may all be commented out.
func (l *loader) allowEmpty(src *source) bool {
	if src.fragment {
		return true
	}
	p := src.problem(1, 1)
	p.Message, p.Hint = "the file is empty", "`mxcert config example` prints a complete one"
	l.add(p)
	return false
}

func (l *loader) addAll(list []Problem) {
	for _, p := range list {
		l.add(p)
	}
}

func isEmpty(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null"
}

// syntaxProblems explains an error of the YAML parser. The parser stops at the first one.
func (s *source) syntaxProblems(err error) []Problem {
	if tabs := s.tabs(); len(tabs) > 0 {
		return tabs
	}
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		p := s.problem(1, 1)
		p.Message = "this is not YAML"
		return []Problem{p}
	}
	p := s.problem(e.Mark.Line, e.Mark.Column)
	text, hint, atStart := explain(e)
	if atStart && e.ContextMark.Line > 0 {
		p = s.problem(e.ContextMark.Line, e.ContextMark.Column)
	}
	p.Message, p.Hint = text, hint
	return []Problem{p}
}

// explain puts the parser's message into words that help a postmaster. atStart reports that the construct that the
// message names starts at the error's context, which is where the mistake is.
// explain uses the parser's own text only if it quotes nothing from the file, because a quotation may contain a secret.
func explain(e *yaml.LoadError) (text, hint string, atStart bool) {
	has := func(s string) bool { return strings.Contains(e.Message, s) }
	in := func(s string) bool { return strings.Contains(e.ContextMsg, s) }
	switch {
	case in("quoted scalar") && has("end of stream"):
		return "the quote that opens here is never closed", "close it before the end of the line", true
	case in("flow sequence"):
		return "the [ that opens here is never closed, or a comma is missing in it", "", true
	case in("flow mapping") || in("flow node"):
		return "the { or [ that opens here is never closed, or a comma is missing in it", "", true
	case in("alias") || has("unknown anchor"):
		return "a value that begins with * is an alias in YAML, and there is no such anchor above", `quote a wildcard: "*.example.org"`, true
	case has("mapping values are not allowed"):
		return "a key is not expected here", "check the indentation and the line above, and quote a value that contains \": \"", false
	case has("cannot start any token"):
		return "a value cannot begin with this character", "quote the value", false
	case has("unknown escape character"):
		return "unknown escape sequence after \\ in double quotes", "use single quotes, where \\ is an ordinary character", false
	case has("did not find expected key"):
		return "the indentation does not match the lines above, or a bracket is closed that was not opened", "", false
	case has("could not find expected ':'"):
		return "a colon is missing after a key", "write `key: value`, with a space after the colon", true
	case strings.ContainsAny(e.Message, "`") || has("anchor"):
		return "this is not valid YAML", "", false
	}
	return "this is not valid YAML: " + e.Message, "", false
}

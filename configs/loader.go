package configs

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// maxProblems limits how many problems are kept; after that many, another one does not help.
const maxProblems = 100

// loader is the state of one Load: the position of every setting, and the problems found so far.
type loader struct {
	index    *index
	problems []Problem
	warnings []Problem

	own     map[string]bool // paths with a problem
	touched map[string]bool // these and the paths above them
	unknown map[string]bool // mappings with an unknown key: what they lack may be only misspelt

	fields  map[reflect.Type][]field
	src     *source // the file that is being decoded
	first   int     // number of certificates in the files before it
	visited int     // YAML nodes decoded, aliases expanded
}

func newLoader() *loader {
	return &loader{
		index:   &index{places: map[string]place{}, secrets: map[spot][]string{}},
		own:     map[string]bool{},
		touched: map[string]bool{},
		unknown: map[string]bool{},
		fields:  map[reflect.Type][]field{},
	}
}

// bad records a fault in the value at path, unless one was recorded at that path or below it.
func (l *loader) bad(path, hint, format string, args ...any) {
	if l.touched[path] {
		return
	}
	l.fault(path, hint, path+": "+fmt.Sprintf(format, args...))
}

// fault records a problem with a message of its own at the value at path.
func (l *loader) fault(path, hint, message string) {
	p := l.index.nearest(path)
	p.Path, p.Message, p.Hint = path, message, hint
	l.add(p)
}

// missing records that a setting is needed, unless a fault was recorded there or around it.
func (l *loader) missing(path, hint string) {
	parent := parentOf(path)
	if l.touched[path] || l.unknown[parent] {
		return
	}
	for p := parent; ; p = parentOf(p) {
		if l.own[p] {
			return
		}
		if p == "" {
			break
		}
	}
	l.fault(path, hint, path+" is missing")
}

// warn records a setting that is allowed but suspicious.
func (l *loader) warn(path, hint, format string, args ...any) {
	l.warnOf(variable{}, path, hint, format, args...)
}

// warnOf records what is suspicious only if a variable of a DNS provider holds a secret.
func (l *loader) warnOf(v variable, path, hint, format string, args ...any) {
	p := l.index.nearest(path)
	p.Path, p.Message, p.Hint, p.about = path, path+": "+fmt.Sprintf(format, args...), hint, v
	l.warnings = append(l.warnings, p)
}

// add records p and marks its path.
func (l *loader) add(p Problem) {
	l.problems = append(l.problems, p)
	l.own[p.Path] = true
	for path := p.Path; path != ""; path = parentOf(path) {
		l.touched[path] = true
	}
}

// result returns nil, or a *Problems with everything that was found.
func (l *loader) result() error {
	if len(l.problems) == 0 {
		return nil
	}
	list, more := l.index.finish(l.problems)
	return &Problems{List: list, more: more}
}

// finish puts problems in the order of the files and drops repetitions, which a value used by several aliases has.
// It keeps maxProblems and counts the others.
func (x *index) finish(list []Problem) (kept []Problem, more int) {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(x.rank(a.File), x.rank(b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
	list = slices.CompactFunc(list, func(a, b Problem) bool {
		return a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
	more = max(0, len(list)-maxProblems)
	list = list[:len(list)-more]
	for i := range list {
		x.show(&list[i])
	}
	return list, more
}

// join appends a key to a path; join("", k) is k.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// at appends a list index to a path.
func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// parentOf removes the last key or index from a path; "" is the top.
func parentOf(path string) string {
	if strings.HasSuffix(path, "]") { // what is in brackets may have dots: see zonePath
		return path[:max(0, strings.LastIndexByte(path, '['))]
	}
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

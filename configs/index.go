package configs

import (
	"fmt"
	"slices"
)

// maxLine bounds the bytes of a line that is shown with a problem. People do not write longer lines by hand, and the search for
// secrets in them takes long.
const maxLine = 4 << 10

// index knows where every setting is in the files, for messages.
type index struct {
	sources []*source
	places  map[string]place
	secrets map[spot][]string // literal secrets by line, which no message may show
}

// place is where a setting is in the files.
type place struct {
	src         *source
	line, col   int // of the value
	kline, kcol int // of its key; 0 for the element of a list
}

// spot is a line of a file.
type spot struct {
	file string
	line int
}

// files names the files in the order in which they were read.
func (x *index) files() []string {
	var names []string
	for _, s := range x.sources {
		names = append(names, s.name)
	}
	return names
}

// rank is the position of a file in the order of reading; files that could not be read come first.
func (x *index) rank(file string) int {
	return slices.IndexFunc(x.sources, func(s *source) bool { return s.name == file })
}

// problem returns a Problem at the setting with that path, or at the nearest one around it: at its value if that is in the line
// of the key, else at the key.
func (x *index) problem(path string) Problem {
	p := x.nearest(path)
	p.Path = path
	x.show(&p)
	return p
}

func (x *index) nearest(path string) Problem {
	for p := path; p != ""; p = parentOf(p) {
		at, ok := x.places[p]
		switch {
		case ok && at.kline > 0 && (p != path || at.line > at.kline):
			return at.src.problem(at.kline, at.kcol)
		case ok:
			return at.src.problem(at.line, at.col)
		}
	}
	if len(x.sources) == 0 {
		return Problem{}
	}
	return x.sources[0].problem(1, 1)
}

// show moves p into its file and fills in the line, without the secrets in it.
func (x *index) show(p *Problem) {
	i := x.rank(p.File)
	if i < 0 || p.Line == 0 {
		return
	}
	src := x.sources[i]
	p.Line, p.Column = src.clamp(p.Line, p.Column)
	if len(src.lines[p.Line-1]) > maxLine {
		return
	}
	line := src.redacted(p.Line)
	for _, s := range x.secrets[spot{p.File, p.Line}] {
		line = hide(line, s)
	}
	p.Text, p.caret = excerpt(line, p.Column)
}

// hide keeps a value out of the line of the setting at path.
func (x *index) hide(path, value string) {
	p := x.nearest(path)
	where := spot{p.File, p.Line}
	x.secrets[where] = append(x.secrets[where], value)
}

// position names a place for a message that speaks of two: file:line.
func (x *index) position(path string) string {
	p := x.nearest(path)
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

package report

import (
	"strings"
	"unicode/utf8"
)

// Fold breaks a text at spaces, so that no line is longer than width. The first line starts in the column first, all others get indent
// spaces. A word that is longer, such as a URL or a path, has a line of its own, and so has a command in `backquotes`, which somebody may
// copy. What fits stays as it is.
func Fold(text string, first, indent, width int) string {
	var out strings.Builder
	margin := strings.Repeat(" ", indent)
	for i, line := range strings.Split(text, "\n") {
		column := first
		if i > 0 {
			out.WriteString("\n" + margin)
			column = indent
		}
		if column+utf8.RuneCountInString(line) <= width {
			out.WriteString(line)
			continue
		}
		foldLine(&out, line, column, margin, width)
	}
	return out.String()
}

// foldLine breaks one line that is too long. Its own indentation stays.
func foldLine(out *strings.Builder, line string, column int, margin string, width int) {
	words := strings.TrimLeft(line, " ")
	own := line[:len(line)-len(words)]
	out.WriteString(own)
	column += len(own)
	fresh := true // nothing is in this line yet
	for _, word := range unbreakable(words) {
		n := utf8.RuneCountInString(word)
		switch {
		case fresh:
		case column+1+n > width:
			out.WriteString("\n" + margin + own)
			column = len(margin) + len(own)
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column, fresh = column+n, false
	}
}

// unbreakable splits a text at its spaces, but for those in `backquotes`.
func unbreakable(text string) (words []string) {
	parts := strings.Split(text, "`")
	for i, part := range parts {
		list := strings.Split(part, " ")
		if i%2 == 1 && i < len(parts)-1 {
			list = []string{part}
		}
		if i > 0 {
			words[len(words)-1] += "`" + list[0]
			list = list[1:]
		}
		words = append(words, list...)
	}
	return words
}

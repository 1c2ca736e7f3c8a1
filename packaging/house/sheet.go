package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is rows of cells below a header.
type table struct {
	head []string
	rows [][]string
}

// sheet is the report: a row for each package, and a row for each tree.
type sheet struct {
	packages, trees table
}

// absent fills the cells of a package that a tree does not have.
const absent = "–"

// compare makes the report of one tree or of two. With two, a cell of a package shows both values if they differ.
func compare(houses []house) sheet {
	s := sheet{
		packages: table{head: []string{"package", "files", "lines", "test", "ratio", "arrows", "a file", "per 1,000", "floors", "circle", "exported", "functions", "documented"}},
		trees:    table{head: []string{"", "packages", "lines", "test", "ratio", "package lines", "files", "exported", "functions", "documented", "arrows", "a file"}},
	}
	for _, path := range paths(houses) {
		row := []string{path}
		for i := range s.packages.head[1:] {
			row = append(row, joined(houses, func(h house) string { return h.find(path).cells()[i] }))
		}
		s.packages.rows = append(s.packages.rows, row)
	}
	labels := []string{"whole tree"}
	if len(houses) == 2 {
		labels = []string{"before", "now"}
	}
	for i, h := range houses {
		s.trees.rows = append(s.trees.rows, append([]string{labels[i]}, h.cells()...))
	}
	return s
}

func paths(houses []house) []string {
	var list []string
	for _, h := range houses {
		for _, r := range h.packages {
			list = append(list, r.path)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func joined(houses []house, cell func(house) string) string {
	var values []string
	for _, h := range houses {
		values = append(values, cell(h))
	}
	return strings.Join(slices.Compact(values), " → ")
}

func (h house) find(path string) *room {
	for _, r := range h.packages {
		if r.path == path {
			return r
		}
	}
	return nil
}

// cells returns the values of a package, in the order of the table's header.
func (r *room) cells() []string {
	if r == nil {
		return slices.Repeat([]string{absent}, 12)
	}
	circle := 0
	if len(r.circles) > 0 {
		circle = len(r.circles[0])
	}
	return []string{
		number(len(r.files)), number(r.lines), number(r.testLines), ratio(r.testLines, r.lines, 2),
		number(len(r.arrows)), ratio(len(r.arrows), len(r.files), 1), ratio(1000*len(r.arrows), r.lines, 0), number(r.floors), number(circle),
		number(r.exported), spread(r.functions), percent(r.documented, r.documents),
	}
}

// cells returns the values of a tree, in the order of the table's header. A directory that has only tests adds lines of tests, and does not
// count as a package.
func (h house) cells() []string {
	var lines, files, exported, functions []int
	var tests, arrows, documented, documents int
	for _, r := range h.packages {
		tests += r.testLines
		if len(r.files) == 0 {
			continue
		}
		lines, files, exported = append(lines, r.lines), append(files, len(r.files)), append(exported, r.exported)
		functions = append(functions, r.functions...)
		arrows += len(r.arrows)
		documented, documents = documented+r.documented, documents+r.documents
	}
	for _, list := range [][]int{lines, files, exported, functions} {
		slices.Sort(list)
	}
	return []string{
		number(len(lines)), number(sum(lines)), number(tests), ratio(tests, sum(lines), 2), spread(lines),
		number(percentile(files, 50)) + " / " + number(percentile(files, 100)), spread(exported), spread(functions), percent(documented, documents),
		number(arrows), ratio(arrows, sum(files), 1),
	}
}

func sum(list []int) int {
	total := 0
	for _, n := range list {
		total += n
	}
	return total
}

// spread formats median, 90th percentile and maximum of a sorted list.
func spread(sorted []int) string {
	if len(sorted) == 0 {
		return absent
	}
	return number(percentile(sorted, 50)) + " / " + number(percentile(sorted, 90)) + " / " + number(percentile(sorted, 100))
}

// number formats a number with commas between thousands.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func ratio(part, whole, digits int) string {
	if whole == 0 {
		return absent
	}
	return strconv.FormatFloat(float64(part)/float64(whole), 'f', digits, 64)
}

func percent(part, whole int) string {
	if whole == 0 {
		return absent
	}
	return ratio(100*part, whole, 0) + " %"
}

func (s sheet) writeText(out io.Writer) {
	s.packages.writeText(out)
	fmt.Fprintln(out)
	s.trees.writeText(out)
}

func (s sheet) writeMarkdown(out io.Writer) {
	s.packages.writeMarkdown(out)
	fmt.Fprintln(out)
	s.trees.writeMarkdown(out)
}

// writeText aligns the first column to the left and the others to the right.
func (t table) writeText(out io.Writer) {
	rows := append([][]string{t.head}, t.rows...)
	widths := make([]int, len(t.head))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + padding)
			} else {
				line.WriteString("  " + padding + cell)
			}
		}
		fmt.Fprintln(out, line.String())
	}
}

func (t table) writeMarkdown(out io.Writer) {
	fmt.Fprintf(out, "| %s |\n|%s|\n", strings.Join(t.head, " | "), strings.Join(slices.Repeat([]string{" --- "}, len(t.head)), "|"))
	for _, row := range t.rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}

// writeArrows lists which file uses what of which other file, and which files form circles.
func writeArrows(out io.Writer, h house) {
	for _, r := range h.packages {
		if len(r.arrows) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", r.path)
		for _, c := range r.circles {
			fmt.Fprintf(out, "  circle of %d: %s\n", len(c), strings.Join(c, " "))
		}
		for _, a := range r.arrows {
			fmt.Fprintf(out, "  %s → %s: %s\n", a.from, a.to, strings.Join(a.names, " "))
		}
	}
}

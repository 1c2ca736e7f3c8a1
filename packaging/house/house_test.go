package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestArrows(t *testing.T) {
	post := measured(t).find("post")
	var got []string
	for _, a := range post.arrows {
		got = append(got, fmt.Sprintf("%s → %s: %s", a.from, a.to, strings.Join(a.names, " ")))
	}
	want := []string{"box.go → flap.go: flap", "flap.go → box.go: Box", "flap.go → size.go: Size", "letter.go → box.go: open take"}
	if !slices.Equal(got, want) {
		t.Errorf("arrows:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFigures(t *testing.T) {
	h := measured(t)
	for path, want := range map[string]string{
		//      files, lines, test, ratio, arrows, a file, per 1,000, floors, circle, exported, functions, documented
		"post":        "5 49 9 0.18 4 0.8 82 3 2 5 1 / 6 / 6 83 %",
		"post/stamps": "0 0 1 – 0 – – 0 0 0 – –",
	} {
		if got := strings.Join(h.find(path).cells(), " "); got != want {
			t.Errorf("%s: %s\nwant %s", path, got, want)
		}
	}
	want := "1 49 10 0.20 49 / 49 / 49 5 / 5 5 / 5 / 5 1 / 6 / 6 83 % 4 0.8"
	if got := strings.Join(h.cells(), " "); got != want {
		t.Errorf("whole tree: %s\nwant %s", got, want)
	}
	if len(h.packages) != 2 {
		t.Errorf("%d directories were measured: vendor is left out", len(h.packages))
	}
}

func TestFloors(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrows  string // "a>b" each
		floors  int
		circles [][]string
	}{
		{"no arrows", "", 1, nil},
		{"a chain", "a>b b>c c>d", 4, nil},
		{"two ways down", "a>b b>d a>c c>d", 3, nil},
		{"one circle", "a>b b>c c>a", 1, [][]string{{"a", "b", "c"}}},
		{"a circle in a chain", "a>b b>c c>b c>d", 3, [][]string{{"b", "c"}}},
		{"the larger circle comes first", "a>b b>a c>d d>e e>c", 1, [][]string{{"c", "d", "e"}, {"a", "b"}}},
		{"a circle inside a circle", "a>b b>c c>b c>a a>d", 2, [][]string{{"a", "b", "c"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var arrows []arrow
			for _, a := range strings.Fields(c.arrows) {
				arrows = append(arrows, arrow{from: a[:1], to: a[2:]})
			}
			floors, circles := floorsOf([]string{"a", "b", "c", "d", "e"}, arrows)
			if floors != c.floors || !slices.EqualFunc(circles, c.circles, slices.Equal) {
				t.Errorf("%d floors, circles %v; want %d, %v", floors, circles, c.floors, c.circles)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	ten := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		list          []int
		percent, want int
	}{
		{nil, 50, 0},
		{[]int{7}, 50, 7},
		{[]int{7}, 90, 7},
		{ten, 50, 5},
		{ten, 90, 9},
		{ten, 100, 10},
		{ten[:9], 50, 5},
		{ten[:9], 90, 9},
	} {
		if got := percentile(c.list, c.percent); got != c.want {
			t.Errorf("percentile %d of %v is %d, want %d", c.percent, c.list, got, c.want)
		}
	}
}

// Two trees stand beside each other; what only one of them has is marked in the other.
func TestCompare(t *testing.T) {
	t.Chdir("testdata/now")
	text := output(t, "-before", "../before", "post")
	for _, want := range []string{"1 → 5", "4 → 49", "– → 0", "before", "now"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	widths := map[int]bool{}
	for line := range strings.Lines(text) {
		widths[len([]rune(line))] = true
	}
	if len(widths) != 3 { // two tables and the empty line between them
		t.Errorf("the columns are not aligned:\n%s", text)
	}
}

func TestMarkdown(t *testing.T) {
	text := output(t, "-md", "-v", "testdata/now/post")
	for _, want := range []string{"| package | files |", "\n| --- | --- |", "\n| testdata/now/post | 5 | 49 |", "circle of 2: box.go flap.go", "letter.go → box.go: open take"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}

func TestUnknownDirectory(t *testing.T) {
	err := run([]string{"testdata/nowhere"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "there is no directory testdata/nowhere") {
		t.Errorf("%v", err)
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 36203: "36,203", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}

func measured(t *testing.T) house {
	t.Helper()
	houses, err := measureTrees([]string{"testdata/now"}, []string{"post/..."})
	if err != nil {
		t.Fatal(err)
	}
	return houses[0]
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

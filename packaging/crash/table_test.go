//go:build linux && amd64

package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"mxcert/packaging/crash/tracer"
)

// table counts what happened to each subject.
type table struct {
	title   string
	columns []string
	rows    []*row
	began   time.Time
}

type row struct {
	subject *subject
	mutex   sync.Mutex
	counts  map[string]int
	errors  int
}

func newTable(title string, columns ...string) *table {
	return &table{title: title, columns: columns, began: time.Now()}
}

func (t *table) row(s *subject) *row {
	r := &row{subject: s, counts: map[string]int{}}
	t.rows = append(t.rows, r)
	return r
}

func (r *row) add(column string, n int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.counts[column] += n
}

// sum adds up a column over the rows of some subjects.
func (t *table) sum(column string, of func(*subject) bool) (n int) {
	for _, r := range t.rows {
		if of(r.subject) {
			n += r.counts[column]
		}
	}
	return n
}

// print writes the table so that packaging/test.sh shows it.
func (t *table) print() {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\t%s\t\n", t.title, strings.Join(t.columns, "\t"))
	line := func(name string, count func(column string) int) {
		fmt.Fprintf(w, "%s\t", name)
		for _, c := range t.columns {
			fmt.Fprintf(w, "%d\t", count(c))
		}
		fmt.Fprintln(w)
	}
	for _, r := range t.rows {
		line(r.subject.name, func(c string) int { return r.counts[c] })
	}
	line("together", func(c string) int { return t.sum(c, func(*subject) bool { return true }) })
	_ = w.Flush()
	for _, l := range strings.Split(strings.TrimRight(text.String(), "\n"), "\n") {
		fmt.Println("figure:", l)
	}
	fmt.Printf("figure: %s took %v\n", t.title, time.Since(t.began).Round(100*time.Millisecond))
}

// complain reports a failure; a row that fails everywhere needs not say so a hundred times.
func (r *row) complain(t *testing.T, format string, args ...any) {
	t.Helper()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.errors++; r.errors <= 5 {
		t.Errorf("%s: %s", r.subject.name, fmt.Sprintf(format, args...))
	} else if r.errors == 6 {
		t.Errorf("%s: and more", r.subject.name)
	}
}

// saw counts what was found after a case that ended at a call, and complains of what may not be.
func (r *row) saw(t *testing.T, calls []tracer.Call, at int, after sight) {
	t.Helper()
	r.add(after.state, 1)
	r.add("open", len(after.open))
	if len(after.left) > 0 {
		r.add("left", 1)
	}
	if r.subject.careless {
		return
	}
	if after.state == "broken" && !(r.subject.window && betweenRenames(calls, at)) {
		r.complain(t, "%v: %s", calls[at], after.why)
	}
	if len(after.open) > 0 {
		r.complain(t, "%v: others can read %q", calls[at], after.open)
	}
}

// openDir is a temporary directory that others may enter, too.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mxcert-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// memory is a directory where fsync costs nothing: what a killed process leaves does not depend on the disk.
func memory(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	if os.Geteuid() == 0 {
		mountTmpfs(t, dir, "size=512m")
	}
	return dir
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options+",mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// recommended are mxcert's layouts that have no window.
func recommended(s *subject) bool { return !s.careless && !s.window }

// ofLayout is for sums over the rows of some layouts.
func ofLayout(names ...string) func(*subject) bool {
	return func(s *subject) bool { return slices.Contains(names, s.spec("").Layout) }
}

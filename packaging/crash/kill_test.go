//go:build linux && amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/packaging/crash/tracer"
)

// TestKill: kill -9 before each call, and after the last.
func TestKill(t *testing.T) {
	base := memory(t)
	table := newTable("kill -9", killColumns()...)
	for _, s := range deployments(makeBundles(t)) {
		killEverywhere(t, base, s, table)
	}
	table.print()
	kills := table.sum("kills", func(*subject) bool { return true })
	if all() && kills < 1000 {
		t.Errorf("only %d kills", kills)
	}
	if table.sum("broken", recommended) > 0 {
		t.Error("a recommended layout was broken")
	}
	for _, layout := range []string{"in place", "two renames", "link removed and made"} {
		if table.sum("broken", ofLayout(layout)) == 0 {
			t.Errorf("nothing of %q was broken: the harness sees nothing", layout)
		}
	}
}

// killEverywhere fills one row.
func killEverywhere(t *testing.T, base string, s *subject, table *table) {
	t.Helper()
	calls := record(t, base, s)
	row := table.row(s)
	row.add("calls", len(calls)-1)
	each(len(calls), func(i int) {
		if !all() && !calls[i].Changes && calls[i].Name != "end" {
			return
		}
		root := filepath.Join(base, fmt.Sprint(i))
		defer os.RemoveAll(root)
		after, err := killAt(s, root, calls[i])
		if err != nil {
			t.Errorf("%s: %v: %v", s.name, calls[i], err)
			return
		}
		row.add("kills", 1)
		row.saw(t, calls, i, after)
		converges(t, s, root, calls[i].String(), row)
	})
}

// killAt prepares a directory, kills the operation there at a call, and looks.
func killAt(s *subject, root string, at tracer.Call) (sight, error) {
	if err := errors.Join(os.Mkdir(root, 0o755), s.setup(root)); err != nil {
		return sight{}, err
	}
	killed, said, err := run(s.spec(root), func(c tracer.Call) tracer.Verdict { return tracer.Verdict{Kill: c.Index == at.Index} })
	if err != nil {
		return sight{}, err
	}
	if !killed {
		return sight{}, fmt.Errorf("it was not killed, and says %+v", said)
	}
	return s.see(root), nil
}

// converges runs the operation again: the aim is reached, and nothing is left beside it.
func converges(t *testing.T, s *subject, root, when string, row *row) {
	t.Helper()
	if err := s.again(root); err != nil {
		row.complain(t, "%s, and the next start fails: %v", when, err)
		return
	}
	after := s.see(root)
	if after.state == s.aim && (s.careless || len(after.left)+len(after.open) == 0) {
		row.add("again", 1)
	} else {
		row.complain(t, "%s, and the next start ends with %v, left %q, open %q", when, after, after.left, after.open)
	}
}

// configured reports whether a call renames a file to a configured path: mxcert makes these in an open directory, so
// that the path is a plain name.
func configured(c tracer.Call) bool {
	return (c.Name == "renameat" || c.Name == "renameat2") && !strings.Contains(c.Path, "/")
}

// betweenRenames reports whether a call comes after the first rename to a configured path and not after the last.
func betweenRenames(calls []tracer.Call, at int) bool {
	before, after := false, false
	for i, c := range calls {
		if configured(c) {
			before, after = before || i < at, after || i >= at
		}
	}
	return before && after
}

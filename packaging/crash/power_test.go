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

// TestPowerCut: the disk is copied before each call and after the last, as a power cut would leave it, and mounted. Once
// with what has been written by itself, and once after another process has let the journal be committed.
func TestPowerCut(t *testing.T) {
	needRoot(t)
	base := memory(t)
	table := newTable("power cut", strings.Fields("calls images old new mixed none broken open left durable again")...)
	b := makeBundles(t)
	for _, s := range append(deployments(b), stores(b)...) {
		newKey := strings.HasSuffix(s.name, ": new key") && s.name != "three targets: new key"
		if all() || newKey || s.name == "store: next" {
			cutEverywhere(t, base, s, table)
		}
	}
	table.print()
	if images := table.sum("images", func(*subject) bool { return true }); images < 100 {
		t.Errorf("only %d images", images)
	}
	for _, layout := range []string{"in place", "two renames", "combined, no fsync"} {
		if table.sum("broken", ofLayout(layout)) == 0 {
			t.Errorf("nothing of %q was broken: the harness sees nothing", layout)
		}
	}
}

// cutEverywhere fills one row.
func cutEverywhere(t *testing.T, base string, s *subject, table *table) {
	t.Helper()
	way := filepath.Join(base, "way", "disk") // as deep as below: root looks at each directory on the way to a file
	if err := os.MkdirAll(way, 0o755); err != nil {
		t.Fatal(err)
	}
	calls := record(t, way, s)
	row := table.row(s)
	row.add("calls", len(calls)-1)
	origin := filepath.Join(base, "origin")
	prepareDisk(t, s, origin)
	defer os.Remove(origin)
	cut := func(dir string, m *mounted, at int) error {
		err := cutAt(t, s, m, filepath.Join(dir, "copy"), row, calls, at)
		if err != nil {
			err = fmt.Errorf("%s: %v: %w", s.name, calls[at], err)
		}
		return err
	}
	steps := stepsOf(calls)
	each(len(steps)+1, func(i int) {
		dir := filepath.Join(base, fmt.Sprint(i))
		defer os.RemoveAll(dir)
		var problem error
		err := onDisk(s, origin, dir, func(m *mounted, c tracer.Call) tracer.Verdict {
			switch {
			case i == len(steps): // one run, in which nothing is written that is not asked for
				if all() || c.Changes || c.Name == "end" {
					problem = errors.Join(problem, cut(dir, m, c.Index))
				}
			case c.Index == steps[i]:
				problem = errors.Join(m.commit(), cut(dir, m, c.Index))
				return tracer.Verdict{Kill: true}
			}
			return tracer.Verdict{}
		})
		if err := errors.Join(err, problem); err != nil {
			t.Error(err)
		}
	})
}

// stepsOf are the calls before which a commit makes a difference: after a change, and at the end. A part has those after
// renames, and every third of the others.
func stepsOf(calls []tracer.Call) (steps []int) {
	changes := 0
	for i, c := range calls {
		switch {
		case c.Name == "end":
			steps = append(steps, i)
		case i > 0 && calls[i-1].Changes:
			changes++
			if all() || len(calls) < 50 || changes%3 == 0 || strings.HasPrefix(calls[i-1].Name, "rename") {
				steps = append(steps, i)
			}
		}
	}
	return steps
}

// prepareDisk makes a disk with what was there before.
func prepareDisk(t *testing.T, s *subject, image string) {
	t.Helper()
	makeDisk(t, image, "-J", "size=1")
	m, err := mount(image, image+".mount", hard)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(m.dir, "root")
	if err := errors.Join(os.Mkdir(root, 0o755), s.setup(root), m.commit(), m.unmount()); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}

// onDisk runs the operation on a copy of a disk.
func onDisk(s *subject, origin, dir string, at func(*mounted, tracer.Call) tracer.Verdict) error {
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.Mkdir(dir, 0o755), copyDisk(origin, image)); err != nil {
		return err
	}
	m, err := mount(image, filepath.Join(dir, "disk"), hard)
	if err != nil {
		return err
	}
	killed, said, err := run(s.spec(filepath.Join(m.dir, "root")), func(c tracer.Call) tracer.Verdict { return at(m, c) })
	if err == nil && !killed && said.Failed {
		err = fmt.Errorf("%s: %+v", s.name, said)
	}
	return errors.Join(err, m.unmount())
}

// cutAt mounts a copy of what the device holds, looks, and runs the operation there.
func cutAt(t *testing.T, s *subject, m *mounted, to string, row *row, calls []tracer.Call, at int) error {
	if err := copyDisk(m.image, to); err != nil {
		return err
	}
	defer os.Remove(to)
	after, err := mount(to, to+".mount", hard)
	if err != nil {
		return err
	}
	root := filepath.Join(after.dir, "root")
	seen := s.see(root)
	row.add("images", 1)
	row.saw(t, calls, at, seen)
	if calls[at].Name == "end" {
		if seen.state == s.aim {
			row.add("durable", 1)
		} else if !s.careless {
			row.complain(t, "after success, a power cut leaves %v", seen)
		}
	}
	converges(t, s, root, "a power cut at "+calls[at].String(), row)
	return after.unmount()
}

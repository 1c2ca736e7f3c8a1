//go:build linux && amd64

package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"mxcert/packaging/crash/tracer"
)

// TestShortWrites: each write(2) in turn writes half, which is no error (write(2), RETURN VALUE).
func TestShortWrites(t *testing.T) {
	base := memory(t)
	table := newTable("short write", "cases", "new", "again")
	for _, s := range deployments(makeBundles(t)) {
		row := table.row(s)
		for _, c := range record(t, base, s) {
			if c.Name != "write" {
				continue
			}
			root := filepath.Join(base, fmt.Sprint(c.Index))
			said, err := failAt(s, root, func(at tracer.Call) tracer.Verdict { return tracer.Verdict{Short: at.Index == c.Index} })
			after := s.see(root)
			if err != nil || said.Failed || after.state != s.aim {
				row.complain(t, "%v writes half: ends with %v, %+v, %v", c, after, said, err)
			}
			row.add("cases", 1)
			row.add("new", 1)
			converges(t, s, root, "a short write", row)
			_ = os.RemoveAll(root)
		}
	}
	table.print()
}

// TestFileSizeLimit: writes end at a limit (RLIMIT_FSIZE), so that the one that reaches it is short and the next fails.
func TestFileSizeLimit(t *testing.T) {
	base := memory(t)
	step := 1500
	if all() {
		step = 100
	}
	table := newTable("size limit", "cases", "failed", "broken", "left", "again")
	for _, s := range deployments(makeBundles(t)) {
		row := table.row(s)
		for limit := 0; ; limit += step {
			root := filepath.Join(base, fmt.Sprint(limit))
			said, err := failAt(s, root, func(tracer.Call) tracer.Verdict { return tracer.Verdict{} }, strconv.Itoa(limit))
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			row.add("cases", 1)
			row.ranOut(t, fmt.Sprintf("files end at %d bytes", limit), syscall.EFBIG, said, s.see(root))
			converges(t, s, root, "a limit", row)
			_ = os.RemoveAll(root)
			if !said.Failed {
				break
			}
		}
	}
	table.print()
	if table.sum("broken", ofLayout("in place")) == 0 {
		t.Error("nothing that was written in place was broken: the harness sees nothing")
	}
}

// TestFullDisk: a real file system with no page free, then with one, and so on until there is enough.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	table := newTable("full disk", "cases", "failed", "broken", "left", "again")
	for _, s := range deployments(makeBundles(t)) {
		row := table.row(s)
		for pages := 0; ; pages++ {
			said, err := s.fillUp(t, row, pages)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if !said.Failed {
				break
			}
		}
	}
	table.print()
	if table.sum("left", ofLayout("two renames")) == 0 {
		t.Error("nothing was left by two careless renames: the harness sees nothing")
	}
}

// fillUp runs the operation on a file system where some pages are free.
func (s *subject) fillUp(t *testing.T, row *row, pages int) (report, error) {
	t.Helper()
	dir := openDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0755"); err != nil {
		return report{}, err
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	root := filepath.Join(dir, "root")
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		return report{}, err
	}
	defer fill.Close()
	said, err := failAt(s, root, func(c tracer.Call) tracer.Verdict {
		if c.Index == 0 { // what comes before the part that is looked at needs room, too
			size := int64(0)
			for err := error(nil); err == nil; size += 4096 {
				_, err = fill.Write(make([]byte, 4096))
			}
			_ = fill.Truncate(max(0, size-4096-int64(pages)*4096))
		}
		return tracer.Verdict{}
	})
	if err != nil {
		return said, err
	}
	row.add("cases", 1)
	row.ranOut(t, fmt.Sprintf("%d pages are free", pages), syscall.ENOSPC, said, s.see(root))
	if err := fill.Truncate(0); err != nil {
		return said, err
	}
	converges(t, s, root, "a full disk", row)
	return said, nil
}

// ranOut counts what was found where there was not enough room: the old files and nothing else.
func (r *row) ranOut(t *testing.T, when string, errno syscall.Errno, said report, after sight) {
	t.Helper()
	if after.state == "broken" {
		r.add("broken", 1)
	}
	if len(after.left) > 0 {
		r.add("left", 1)
	}
	if said.Failed {
		r.add("failed", 1)
	}
	s := r.subject
	if s.careless {
		return
	}
	want := s.aim
	if said.Failed {
		want = s.origin()
		r.checkMessage(t, when, errno, said)
	}
	if after.state != want || len(after.left) > 0 {
		r.complain(t, "%s: ends with %v, left %q, and says %+v", when, after, after.left, said)
	}
}

// needRoot ends a test here without root; where tests must run, that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
		t.Fatal("only root can mount file systems")
	}
	t.Skip("only root can mount file systems; as root, make test does")
}

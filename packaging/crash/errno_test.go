//go:build linux && amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mxcert/packaging/crash/tracer"
)

// failure is a call that fails.
type failure struct {
	call  tracer.Call
	errno syscall.Errno
	stays bool // and whatever fails for the same reason after it
}

func (f failure) String() string {
	if f.stays {
		return fmt.Sprintf("%v fails with %v, and so it stays", f.call, f.errno)
	}
	return fmt.Sprintf("%v fails with %v", f.call, f.errno)
}

// verdict lets the call fail.
func (f failure) verdict(c tracer.Call) tracer.Verdict {
	if c.Name != "end" && (c.Index == f.call.Index || f.stays && c.Index > f.call.Index && f.likewise(c)) {
		return tracer.Verdict{Errno: f.errno}
	}
	return tracer.Verdict{}
}

// likewise reports whether a later call fails for the same reason: a disk stays full, a file system read-only.
func (f failure) likewise(c tracer.Call) bool {
	switch f.errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return c.Creates
	case syscall.EROFS:
		return c.Changes
	case syscall.EACCES:
		return c.Path != ""
	case syscall.EMFILE:
		return c.Name == "openat"
	}
	return true
}

// noWayBack reports whether nothing can be renamed or removed any more.
func (f failure) noWayBack() bool {
	return f.stays && slices.Contains([]syscall.Errno{syscall.EIO, syscall.EROFS, syscall.EACCES}, f.errno)
}

// keepsLeftovers reports whether it is the removal of a temporary file that fails.
func (f failure) keepsLeftovers() bool {
	return f.call.Name == "unlinkat" || f.noWayBack() || f.stays && f.errno == syscall.EMFILE
}

// TestErrno: every error at every call. The files stay as they were, and the message says what and where.
func TestErrno(t *testing.T) {
	base := memory(t)
	table := newTable("errno", errnoColumns()...)
	for _, s := range deployments(makeBundles(t)) {
		failEverywhere(t, base, s, table)
	}
	table.print()
	if cases := table.sum("cases", func(*subject) bool { return true }); all() && cases < 1000 {
		t.Errorf("only %d cases", cases)
	}
	for _, layout := range []string{"in place", "two renames", "link removed and made"} {
		if table.sum("broken", ofLayout(layout)) == 0 {
			t.Errorf("nothing of %q was broken: the harness sees nothing", layout)
		}
	}
}

// failures lists the cases of a subject.
func failures(calls []tracer.Call) (list []failure) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EMFILE}
	for i, c := range calls {
		if c.Name == "end" {
			continue
		}
		for j, errno := range errnos {
			switch {
			case all() && important(c):
				list = append(list, failure{c, errno, false}, failure{c, errno, true})
			case all():
				list = append(list, failure{c, errno, false})
			case important(c) && i%len(errnos) == j: // each call once, each error now and then
				list = append(list, failure{c, errno, i/len(errnos)%2 == 1})
			}
		}
	}
	return list
}

// important are the calls after which something is different, or nothing can be done.
func important(c tracer.Call) bool { return c.Changes || c.Name == "openat" }

func failEverywhere(t *testing.T, base string, s *subject, table *table) {
	t.Helper()
	calls := record(t, base, s)
	row := table.row(s)
	row.add("calls", len(calls)-1)
	list := failures(calls)
	each(len(list), func(i int) {
		f := list[i]
		root := filepath.Join(base, fmt.Sprint(i))
		defer os.RemoveAll(root)
		said, err := failAt(s, root, f.verdict)
		if err != nil {
			t.Errorf("%s: %v: %v", s.name, f, err)
			return
		}
		row.add("cases", 1)
		row.survived(t, f, calls, said, s.see(root))
		converges(t, s, root, f.String(), row)
	})
}

// failAt prepares a directory and runs the operation there.
func failAt(s *subject, root string, at func(tracer.Call) tracer.Verdict, args ...string) (report, error) {
	if err := errors.Join(os.Mkdir(root, 0o755), s.setup(root)); err != nil {
		return report{}, err
	}
	_, said, err := run(s.spec(root), at, args...)
	return said, err
}

// survived counts what was found after a failure, and complains of what may not be.
func (r *row) survived(t *testing.T, f failure, calls []tracer.Call, said report, after sight) {
	t.Helper()
	r.add(after.state, 1)
	r.add("open", len(after.open))
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
	if said.Failed {
		r.checkMessage(t, f.String(), f.errno, said)
		if after.state != s.origin() && strings.Contains(said.Hint, "untouched") {
			r.complain(t, "%v: ends with %v, and says %q", f, after, said.Hint)
		}
	}
	switch {
	case said.Failed && after.state == s.origin():
	case said.Failed && after.state == s.aim && afterLastRename(calls, f.call.Index): // it is in service, but not durable
	case !said.Failed && after.state == s.aim:
	case said.Failed && s.store && after.state != "broken": // the next pass goes on from there
	case f.noWayBack() && betweenRenames(calls, f.call.Index) && (after.state == "mixed" || s.window):
	case f.noWayBack() && betweenRenames(calls, f.call.Index) && s.stapled && after.state == s.aim: // without its response, which must come last
	default:
		r.complain(t, "%v: ends with %v, and says %+v", f, after, said)
	}
	if len(after.left) > 0 && !f.keepsLeftovers() {
		r.complain(t, "%v: left %q", f, after.left)
	}
	if len(after.open) > 0 {
		r.complain(t, "%v: others can read %q", f, after.open)
	}
}

// checkMessage looks for the path, the error in the system's words, and what to do next.
func (r *row) checkMessage(t *testing.T, when string, errno syscall.Errno, said report) {
	t.Helper()
	if !strings.Contains(said.Message, errno.Error()) || !strings.Contains(said.Message, "/tls") && !strings.Contains(said.Message, "/state") {
		r.complain(t, "%s: %q names no path or no error", when, said.Message)
	}
	if said.Hint == "" {
		r.complain(t, "%s: no next step for %q", when, said.Message)
	}
	for _, inner := range []string{".mxcert-", ".tmp-", ".new-", "PRIVATE"} {
		if strings.Contains(said.Message, inner) && !strings.HasPrefix(said.Message, "remove ") { // that names what is left
			r.complain(t, "%s: %q is not for people", when, said.Message)
		}
	}
}

// origin is what see finds before the operation.
func (s *subject) origin() string {
	switch {
	case s.first:
		return "none"
	case s.aim == "old":
		return "new"
	}
	return "old"
}

func afterLastRename(calls []tracer.Call, at int) bool {
	for i, c := range calls {
		if i >= at && configured(c) {
			return false
		}
	}
	return true
}

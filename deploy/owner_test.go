package deploy_test

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"mxcert/deploy"
)

// An account that every Linux has, and that owns nothing.
const (
	anyUser  = "daemon"
	anyGroup = "daemon"
)

func ids(t *testing.T) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(anyUser)
	if err != nil {
		t.Fatal(err)
	}
	g, err := user.LookupGroup(anyGroup)
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(g.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	return uid, gid
}

func TestOwnerAndGroup(t *testing.T) {
	needRoot(t, "give files away")
	uid, gid := ids(t)
	for _, tt := range []struct {
		what     string
		edit     func(*deploy.Target)
		old      [2]int // of the file that is there
		dir      [2]int // of the directory
		setgid   bool
		uid, gid int
	}{
		{what: "nothing said", uid: 0, gid: 0},
		{what: "names", edit: func(t *deploy.Target) { t.Owner, t.Group = anyUser, anyGroup }, uid: uid, gid: gid},
		{what: "numbers", edit: func(t *deploy.Target) { t.Owner, t.Group = "12345", "54321" }, uid: 12345, gid: 54321},
		{what: "group alone", edit: func(t *deploy.Target) { t.Group = anyGroup }, uid: 0, gid: gid},
		{what: "those of the old file", old: [2]int{0, 54321}, uid: 0, gid: 54321},
		{what: "the owner, and the group of the old file", edit: func(t *deploy.Target) { t.Owner = anyUser }, old: [2]int{uid, 54321}, uid: uid, gid: 54321},
		{what: "another owner than before", edit: func(t *deploy.Target) { t.Owner = anyUser }, old: [2]int{12345, 54321}, uid: uid, gid: 54321},
		{what: "the group, and the owner of the old file", edit: func(t *deploy.Target) { t.Group = anyGroup }, old: [2]int{0, 54321}, uid: 0, gid: gid},
		{what: "the directory's without setgid", dir: [2]int{0, gid}, uid: 0, gid: 0},
		{what: "the directory's with setgid", dir: [2]int{0, gid}, setgid: true, uid: 0, gid: gid},
		{what: "exim, the directory's with setgid", edit: func(t *deploy.Target) { t.Kind = "exim" }, dir: [2]int{0, gid}, setgid: true, uid: 0, gid: gid},
		{what: "a directory of the owner's", edit: func(t *deploy.Target) { t.Owner = anyUser }, dir: [2]int{uid, gid}, uid: uid, gid: 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			own(t, dir, tt.dir)
			if tt.setgid {
				chmod(t, dir, 0o750|os.ModeSetgid)
			}
			target := pair(dir)
			if tt.edit != nil {
				tt.edit(&target)
			}
			if tt.old != [2]int{} {
				for _, path := range []string{target.Certificate, target.PrivateKey} {
					write(t, path, "old", 0o600)
					own(t, path, tt.old)
				}
			}
			first := fresh(t, 1)
			apply(t, first, target)
			apply(t, renewed(t, first, 2), target)
			for _, path := range []string{target.Certificate, target.PrivateKey} {
				if s := stat(t, path); int(s.Uid) != tt.uid || int(s.Gid) != tt.gid || mode(t, path) != 0o640 {
					t.Errorf("%s belongs to %d:%d with mode %o, want %d:%d", path, s.Uid, s.Gid, mode(t, path), tt.uid, tt.gid)
				}
			}
		})
	}
}

func own(t *testing.T, path string, ids [2]int) {
	t.Helper()
	if err := os.Chown(path, ids[0], ids[1]); err != nil {
		t.Fatal(err)
	}
}

// TestEximGroup: Exim opens its key after it has dropped root.
func TestEximGroup(t *testing.T) {
	needRoot(t, "give files away")
	want := uint32(0)
	for _, name := range []string{"exim", "Debian-exim"} { // the last one wins
		if g, err := user.LookupGroup(name); err == nil {
			gid, err := strconv.ParseUint(g.Gid, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			want = uint32(gid)
		}
	}
	target := pair(t.TempDir())
	target.Kind = "exim"
	apply(t, fresh(t, 1), target)
	if s := stat(t, target.PrivateKey); s.Gid != want {
		t.Errorf("group %d, want %d", s.Gid, want)
	}
}

// TestOwnerOnlyChange: a change of the group alone needs no reload.
func TestOwnerOnlyChange(t *testing.T) {
	needRoot(t, "give files away")
	_, gid := ids(t)
	target := combined(t.TempDir())
	b := fresh(t, 1)
	apply(t, b, target)
	target.Group = anyGroup
	p := plan(t, b, target)
	if p.Summary().Empty() || p.Summary().ContentChanges() || p.Summary().Changes[0].Why != "mode or owner" {
		t.Errorf("plan %+v", p.Summary().Changes)
	}
	if err := p.Apply(func(string, []byte) error { t.Error("nothing is replaced"); return nil }); err != nil {
		t.Fatal(err)
	}
	holds(t, b, target)
	if s := stat(t, target.Combined); int(s.Gid) != gid {
		t.Errorf("group %d", s.Gid)
	}
	if err := p.Revert(); err != nil || stat(t, target.Combined).Gid != 0 {
		t.Errorf("reverted: group %d, %v", stat(t, target.Combined).Gid, err)
	}
}

// TestPipeOnTheWay: a pipe in the place of a directory is refused. To open it would wait until somebody writes.
func TestPipeOnTheWay(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "sub"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"sub", "sub/below"} {
		target := pair(filepath.Join(dir, way))
		ended := make(chan error, 2)
		go func() {
			_, err := tryPlan(fresh(t, 1), target)
			ended <- err
			ended <- deploy.Check([]deploy.Target{target}, nil)
		}()
		for range 2 {
			select {
			case err := <-ended:
				if !errors.Is(err, syscall.ENOTDIR) {
					t.Errorf("%s: %v", way, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s: it waits for the pipe", way)
			}
		}
	}
}

// TestLinkOfAnotherUserOnTheWay: whoever may put a link on the way would decide which file root replaces.
func TestLinkOfAnotherUserOnTheWay(t *testing.T) {
	needRoot(t, "give files away")
	const root, other = 0, 12345
	for _, tt := range []struct {
		what      string
		dir, link int // who owns the link and the directory that it is in
		owner     string
		leads     int // who owns the directory that it leads to
		refused   bool
	}{
		{"root's", root, root, "", root, false},
		{"of the owner that is configured", other, other, "12345", other, false},
		{"of the owner that is configured, to a directory of root's", other, other, "12345", root, true},
		{"of another user", other, other, "", root, true},
		{"of another user in a directory of root's", root, other, "", root, true},
		{"root's in a directory of another user", other, root, "", root, true},
	} {
		dir, victim := t.TempDir(), t.TempDir()
		own(t, victim, [2]int{tt.leads, 0})
		link(t, os.Symlink, victim, filepath.Join(dir, "sub"))
		if err := os.Lchown(filepath.Join(dir, "sub"), tt.link, 0); err != nil {
			t.Fatal(err)
		}
		own(t, dir, [2]int{tt.dir, 0})
		target := pair(filepath.Join(dir, "sub"))
		target.Owner = tt.owner
		_, err := tryPlan(fresh(t, 1), target)
		for _, err := range []error{err, deploy.Check([]deploy.Target{target}, nil)} {
			if tt.refused {
				refused(t, err, filepath.Join(dir, "sub"), "refused", "symbolic link", "configure the path that it points to")
			} else if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
		}
	}
	// Links that lead in a circle end.
	dir := t.TempDir()
	link(t, os.Symlink, "sub", filepath.Join(dir, "sub"))
	if _, err := tryPlan(fresh(t, 1), pair(filepath.Join(dir, "sub"))); !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
}

// asUser runs a function as an unprivileged user, in this process: no other test may run meanwhile.
func asUser(t *testing.T, uid, gid int, do func()) {
	t.Helper()
	needRoot(t, "become another user")
	before, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setegid(gid), syscall.Seteuid(uid)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(syscall.Seteuid(0), syscall.Setegid(0), syscall.Setgroups(before)); err != nil {
			t.Fatal(err)
		}
	}()
	do()
}

// ownedDir is a directory of an unprivileged user, who can reach it.
func ownedDir(t *testing.T, uid, gid int) string {
	t.Helper()
	dir := t.TempDir()
	chmod(t, filepath.Dir(dir), 0o755)
	own(t, dir, [2]int{uid, gid})
	return dir
}

// TestServiceUser: the service has no capabilities. It replaces what root had put there, and can go back.
func TestServiceUser(t *testing.T) {
	needRoot(t, "become another user")
	uid, gid := ids(t)
	dir := ownedDir(t, 0, gid)
	target := pair(dir)
	old, next := fresh(t, 1), fresh(t, 2)
	apply(t, old, target)
	own(t, dir, [2]int{uid, gid})
	for _, path := range []string{target.Certificate, target.PrivateKey} {
		own(t, path, [2]int{0, gid})
	}
	asUser(t, uid, gid, func() {
		if err := deploy.Check([]deploy.Target{target}, nil); err != nil {
			t.Error(err)
		}
		p := plan(t, next, target)
		if err := p.Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
		holds(t, next, target)
		if s := stat(t, target.PrivateKey); int(s.Uid) != uid || int(s.Gid) != gid {
			t.Errorf("it belongs to %d:%d", s.Uid, s.Gid)
		}
		if !plan(t, next, target).Summary().Empty() {
			t.Error("it is not done")
		}
		if err := p.Revert(); err != nil {
			t.Fatal(err)
		}
		holds(t, old, target)
	})
}

// TestServiceUserIsToldBefore a certificate is ordered, and nothing is touched.
func TestServiceUserIsToldBefore(t *testing.T) {
	needRoot(t, "become another user")
	uid, gid := ids(t)
	dir := ownedDir(t, uid, gid)
	foreign, setgid := ownedDir(t, 0, 0), ownedDir(t, uid, 54321)
	chmod(t, setgid, 0o750|os.ModeSetgid)
	old := fresh(t, 1)
	theirs := pair(ownedDir(t, 0, gid))
	apply(t, old, theirs)
	own(t, filepath.Dir(theirs.Certificate), [2]int{uid, gid})
	own(t, theirs.Certificate, [2]int{uid, gid})
	asUser(t, uid, gid, func() {
		target := combined(dir)
		target.Owner = "12345"
		refused(t, deploy.Check([]deploy.Target{target}, nil), target.Combined, "permission", "set owner 12345", "root")
		target = combined(dir)
		target.Group = "54321"
		refused(t, deploy.Check([]deploy.Target{target}, nil), target.Combined, "permission", "set group 54321, of which this user is no member", "root")
		refused(t, plan(t, old, target).Apply(keepNothing), target.Combined, "permission", "set owner (unchanged) and group 54321: operation not permitted", "root")
		refused(t, deploy.Check([]deploy.Target{theirs}, nil), theirs.PrivateKey, "permission", "read", "root")
		refused(t, deploy.Check([]deploy.Target{combined(foreign)}, nil), foreign, "permission", "permission denied", "root")
		refused(t, plan(t, old, combined(foreign)).Apply(keepNothing), combined(foreign).Combined, "permission", "permission denied", "root")
		target = combined(setgid)
		target.Group = "54321"
		if err := deploy.Check([]deploy.Target{target}, nil); err != nil {
			t.Errorf("a setgid directory: %v", err)
		}
		apply(t, old, target)
		if s := stat(t, target.Combined); s.Gid != 54321 {
			t.Errorf("group %d", s.Gid)
		}
	})
	noStaging(t, dir)
	noStaging(t, foreign)
}

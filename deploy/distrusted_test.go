package deploy_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/deploy"
)

// layouts are the targets in a directory, one of each kind.
func layouts(dir string) []deploy.Target {
	return []deploy.Target{pair(dir), combined(dir), generation(dir), sni(dir, "mx")}
}

// TestDistrusted: root that works for another user writes nothing below a directory that this user can write, however the user could.
func TestDistrusted(t *testing.T) {
	needRoot(t, "give files away")
	uid, gid := ids(t)
	for _, tt := range []struct {
		what    string
		prepare func(dir string) // makes the user write somewhere on the way to dir/sub
		edit    func(*deploy.Target)
		found   string // the directory that is named, relative to dir; "" if there is nothing to refuse
	}{
		{what: "directories of root", prepare: func(string) {}},
		{what: "its directory", prepare: func(dir string) { own(t, filepath.Join(dir, "sub"), [2]int{uid, 0}) }, found: "sub"},
		{what: "its directory, and it may not write", prepare: func(dir string) {
			own(t, filepath.Join(dir, "sub"), [2]int{uid, 0})
			chmod(t, filepath.Join(dir, "sub"), 0o500)
		}, found: "sub"},
		{what: "its directory, which is configured", prepare: func(dir string) { own(t, filepath.Join(dir, "sub"), [2]int{uid, 0}) },
			edit: func(target *deploy.Target) { target.Owner = anyUser }, found: "sub"},
		{what: "by group", prepare: func(dir string) {
			own(t, filepath.Join(dir, "sub"), [2]int{0, gid})
			chmod(t, filepath.Join(dir, "sub"), 0o770|os.ModeSetgid)
		}, found: "sub"},
		{what: "a group that may only read", prepare: func(dir string) {
			own(t, filepath.Join(dir, "sub"), [2]int{0, gid})
			chmod(t, filepath.Join(dir, "sub"), 0o750|os.ModeSetgid)
		}},
		{what: "a group of others", prepare: func(dir string) {
			own(t, filepath.Join(dir, "sub"), [2]int{0, 54321})
			chmod(t, filepath.Join(dir, "sub"), 0o775)
		}},
		{what: "above", prepare: func(dir string) { own(t, dir, [2]int{uid, 0}) }, found: "."},
		{what: "above, by group", prepare: func(dir string) { own(t, dir, [2]int{0, gid}); chmod(t, dir, 0o775) }, found: "."},
		{what: "above, by the mode for others", prepare: func(dir string) { chmod(t, dir, 0o777) }, found: "."},
		{what: "above, sticky", prepare: func(dir string) { own(t, dir, [2]int{0, gid}); chmod(t, dir, 0o775|os.ModeSticky) }},
		{what: "sticky at the end", prepare: func(dir string) {
			own(t, filepath.Join(dir, "sub"), [2]int{0, gid})
			chmod(t, filepath.Join(dir, "sub"), 0o775|os.ModeSticky)
		}, found: "sub"},
		{what: "a link of root's to its directory", prepare: func(dir string) {
			real := filepath.Join(dir, "real")
			link(t, os.Rename, filepath.Join(dir, "sub"), real)
			own(t, real, [2]int{uid, gid})
			link(t, os.Symlink, "real", filepath.Join(dir, "sub"))
		}, found: "real"},
		{what: "a link of root's through its directory, to one of root's", prepare: func(dir string) {
			theirs := filepath.Join(dir, "theirs")
			link(t, func(_, name string) error { return os.MkdirAll(name, 0o755) }, "", filepath.Join(theirs, "real"))
			own(t, theirs, [2]int{uid, gid})
			link(t, func(_, name string) error { return os.Remove(name) }, "", filepath.Join(dir, "sub"))
			link(t, os.Symlink, filepath.Join(theirs, "real"), filepath.Join(dir, "sub"))
		}, found: "theirs"},
		{what: "an access list", prepare: func(dir string) { setAccessList(t, filepath.Join(dir, "sub"), uid, 7, 7) }, found: "sub"},
		{what: "an access list whose mask allows nothing", prepare: func(dir string) { setAccessList(t, filepath.Join(dir, "sub"), uid, 7, 5) }},
		{what: "an access list for another user", prepare: func(dir string) { setAccessList(t, filepath.Join(dir, "sub"), 12345, 7, 7) }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			tt.prepare(dir)
			for _, target := range layouts(filepath.Join(dir, "sub")) {
				target.Distrusted = anyUser
				if tt.edit != nil {
					tt.edit(&target)
				}
				places, err := target.WritableBy(anyUser)
				if err != nil || (len(places) > 0) != (tt.found != "") || tt.found != "" && !slices.Equal(places, target.Places(nil)) {
					t.Errorf("writable are %q, %v", places, err)
				}
				_, planErr := tryPlan(fresh(t, 1), target)
				for _, err := range []error{planErr, deploy.Check([]deploy.Target{target}, nil)} {
					if tt.found != "" {
						refused(t, err, filepath.Join(dir, tt.found), "refused", "the user daemon can write this directory", "chown root "+filepath.Join(dir, tt.found))
					} else if err != nil {
						t.Errorf("%+v: %v", target, err)
					}
				}
				if entries, err := os.ReadDir(filepath.Join(dir, "sub")); err != nil || len(entries) > 0 {
					t.Errorf("written: %v, %v", entries, err)
				}
				if tt.found == "" {
					for _, serial := range []int64{1, 2} {
						if err := plan(t, fresh(t, serial), target).Apply(keepNothing); err != nil {
							t.Fatal(err)
						}
					}
					if err := errors.Join(os.RemoveAll(filepath.Join(dir, "sub")), os.Mkdir(filepath.Join(dir, "sub"), 0o755)); err != nil {
						t.Fatal(err)
					}
					tt.prepare(dir)
				}
			}
		})
	}
}

// setAccessList gives a user rights to a directory, within a mask.
func setAccessList(t *testing.T, path string, user int, rights, mask uint16) {
	t.Helper()
	list := []byte{2, 0, 0, 0}
	for _, entry := range [][]byte{accessEntry(1, 7, ^uint32(0)), accessEntry(2, rights, uint32(user)), accessEntry(4, 5, ^uint32(0)), accessEntry(0x10, mask, ^uint32(0)), accessEntry(0x20, 5, ^uint32(0))} {
		list = append(list, entry...)
	}
	err := unix.Setxattr(path, "system.posix_acl_access", list, 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("this file system has no access lists")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDistrustedLinksAndFiles: in a directory of root's, a link of the user's leads nowhere, and the user's file is nobody's.
func TestDistrustedLinksAndFiles(t *testing.T) {
	needRoot(t, "give files away")
	uid, gid := ids(t)
	dir, victim := t.TempDir(), t.TempDir()
	link(t, os.Symlink, victim, filepath.Join(dir, "sub"))
	if err := os.Lchown(filepath.Join(dir, "sub"), uid, gid); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"", anyUser} {
		target := pair(filepath.Join(dir, "sub"))
		target.Owner, target.Distrusted = owner, anyUser
		_, err := tryPlan(fresh(t, 1), target)
		refused(t, err, filepath.Join(dir, "sub"), "refused", "symbolic link of the user daemon", "configure the path that it points to")
	}

	target := combined(dir)
	target.Distrusted = anyUser
	write(t, target.Combined, "theirs", 0o600)
	own(t, target.Combined, [2]int{uid, gid})
	_, err := tryPlan(fresh(t, 1), target)
	refused(t, err, target.Combined, "refused", "belongs to the user daemon", "`owner: daemon`")
	target.Owner = anyUser // root has decided so
	apply(t, fresh(t, 1), target)

	// A generation has directories, in which the user could then write.
	for _, edit := range []func(*deploy.Target){
		func(target *deploy.Target) { target.Owner = anyUser },
		func(target *deploy.Target) { target.Group, target.Mode = anyGroup, 0o660 },
	} {
		target := generation(dir)
		target.Distrusted = anyUser
		edit(&target)
		_, err := tryPlan(fresh(t, 1), target)
		refused(t, err, target.Directory, "refused", "could write the directories of the generations", "leave out `owner: daemon`")
		refused(t, deploy.Check([]deploy.Target{target}, nil), target.Directory, "refused", "could write the directories of the generations", "leave out `owner: daemon`")
	}
	target = generation(dir)
	target.Distrusted, target.Group, target.Mode = anyUser, anyGroup, 0o640
	if err := plan(t, fresh(t, 1), target).Apply(keepNothing); err != nil {
		t.Errorf("a group that may only read: %v", err)
	}
}

// TestNobodyIsDistrusted: on a host without that user there is nothing to refuse.
func TestNobodyIsDistrusted(t *testing.T) {
	target := pair(t.TempDir())
	target.Distrusted = "nosuchuser"
	apply(t, fresh(t, 1), target)
	if places, err := target.WritableBy("nosuchuser"); err != nil || len(places) != 0 {
		t.Errorf("%q, %v", places, err)
	}
}

// TestUndo: the other half of a deployment has failed, and everything is as it was.
func TestUndo(t *testing.T) {
	old, next := fresh(t, 1), fresh(t, 2)
	for i, target := range layouts(t.TempDir()) {
		dir := filepath.Dir(target.Places(nil)[0])
		for _, before := range []string{"nothing", "another certificate"} {
			if before != "nothing" {
				if err := plan(t, old, target).Apply(keepNothing); err != nil {
					t.Fatal(err)
				}
			}
			had := contents(t, dir)
			p := plan(t, next, target)
			if err := p.Undo(); err != nil || !mapsEqual(had, contents(t, dir)) {
				t.Errorf("layout %d, %s: before it is applied: %v", i, before, err)
			}
			if err := p.Apply(keepNothing); err != nil || mapsEqual(had, contents(t, dir)) {
				t.Fatalf("layout %d, %s: nothing has changed: %v", i, before, err)
			}
			if err := p.Undo(); err != nil {
				t.Fatal(err)
			}
			left := contents(t, dir)
			if before == "nothing" && target.SNIMap != "" {
				if left[target.SNIMap] != "" {
					t.Errorf("the map is %q", left[target.SNIMap])
				}
				delete(left, target.SNIMap)
			}
			if !mapsEqual(had, left) {
				t.Errorf("layout %d, %s: had %q, left %q", i, before, had, left)
			}
		}
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	// What another program has put there meanwhile stays.
	target := combined(t.TempDir())
	p := plan(t, next, target)
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	write(t, target.Combined, "another program's", 0o600)
	if err := p.Undo(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target.Combined); err != nil || string(got) != "another program's" {
		t.Errorf("%q, %v", got, err)
	}
}

// contents returns what is below a directory: the content of files, and where links lead.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == dir:
			return err
		case d.Type() == fs.ModeSymlink:
			found[path] = "-> " + readlink(t, path)
		case d.IsDir():
			found[path] = "directory"
		default:
			text, err := os.ReadFile(path)
			found[path] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func mapsEqual(a, b map[string]string) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// TestMerge: the summaries of two plans, each for a part of the targets, say what one plan for all of them says.
func TestMerge(t *testing.T) {
	const life = 48 * time.Hour
	ca := issuer.New(t)
	live, shorter := ca.Issue(t, life*2, "mx.example.org"), ca.Issue(t, life/2, "mx.example.org")
	next := ca.Issue(t, life, "mx.example.org")
	one, two, three := pair(t.TempDir()), generation(t.TempDir()), sni(t.TempDir(), "mx")
	apply(t, live, one)
	if err := plan(t, shorter, two).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	var jobs []deploy.Job
	for _, target := range []deploy.Target{one, three, two} {
		jobs = append(jobs, deploy.Job{Bundle: next, Target: target, Names: []string{"mx.example.org"}})
	}
	whole := plan(t, next, one, three, two).Summary()
	for _, parts := range [][]deploy.Summary{
		{plan(t, next, one, two).Summary(), plan(t, next, three).Summary()},
		{plan(t, next, three).Summary(), plan(t, next, two, one).Summary()},
		{plan(t, next, three, two).Summary(), plan(t, next, one).Summary(), {}},
	} {
		merged := deploy.Merge(jobs, parts...)
		var got, want []string
		for _, c := range merged.Changes {
			got = append(got, kindOf(two, c))
		}
		for _, c := range whole.Changes {
			want = append(want, kindOf(two, c))
		}
		if !slices.Equal(got, want) || len(got) != 6 {
			t.Errorf("changes %q, want %q", got, want)
		}
		if merged.Longer == nil || merged.Longer.Serial != whole.Longer.Serial || !merged.OldNotAfter.Equal(whole.OldNotAfter) || merged.OldFault != whole.OldFault || merged.OldFault == "" {
			t.Errorf("merged %+v, want %+v", merged, whole)
		}
	}
	if merged := deploy.Merge(jobs, deploy.Summary{}, deploy.Summary{}); !merged.Empty() || merged.Changes == nil {
		t.Errorf("of nothing: %+v", merged)
	}
}

// kindOf names a change; the directory of a generation has a name that no other plan makes.
func kindOf(generations deploy.Target, c deploy.Change) string {
	if filepath.Dir(c.Path) == generations.Directory+".generations" {
		return "a generation"
	}
	return c.Path
}

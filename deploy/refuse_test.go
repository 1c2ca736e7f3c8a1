package deploy_test

import (
	"os"
	"path/filepath"
	"testing"

	"mxcert/deploy"
)

// TestRefused: what lies in the way is never removed or followed.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		what          string
		prepare       func(t *testing.T, path string) // path of the certificate
		kind          string
		says, hint    string
		concernsItDir bool // the error is about the directory
		above         bool // or about the one that it lies in, which only Check looks at
		root          bool // only root can make it so
	}{
		{what: "symbolic link", kind: "refused", says: "symbolic link", hint: "points to", prepare: func(t *testing.T, path string) {
			write(t, path+".real", "x", 0o600)
			link(t, os.Symlink, filepath.Base(path)+".real", path)
		}},
		{what: "dangling link", kind: "refused", says: "symbolic link", hint: "points to", prepare: func(t *testing.T, path string) { link(t, os.Symlink, "/nonexistent", path) }},
		{what: "hard link", kind: "refused", says: "more than one hard link", hint: "another path", prepare: func(t *testing.T, path string) {
			write(t, path+".real", "x", 0o600)
			link(t, os.Link, path+".real", path)
		}},
		{what: "directory", kind: "refused", says: "not a regular file", hint: "another path", prepare: func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{what: "large file", kind: "refused", says: "larger than", hint: "another path", prepare: func(t *testing.T, path string) { write(t, path, string(make([]byte, 2<<20)), 0o600) }},
		{what: "world-writable directory", kind: "refused", says: "every user may write", hint: "chmod o-w ", concernsItDir: true, prepare: func(t *testing.T, path string) { chmod(t, filepath.Dir(path), 0o777) }},
		{what: "sticky directory", kind: "refused", says: "every user may write", hint: "chmod o-w ", concernsItDir: true, prepare: func(t *testing.T, path string) { chmod(t, filepath.Dir(path), 0o777|os.ModeSticky) }},
		{what: "directory below one that every user may write into", kind: "refused", says: "every user may write", hint: "chmod o-w ", concernsItDir: true, above: true, prepare: func(t *testing.T, path string) {
			chmod(t, filepath.Dir(filepath.Dir(path)), 0o777)
		}},
		{what: "foreign directory", root: true, kind: "refused", says: "the directory belongs to the user daemon", hint: "`owner: daemon`", concernsItDir: true, prepare: func(t *testing.T, path string) {
			uid, gid := ids(t)
			own(t, filepath.Dir(path), [2]int{uid, gid})
		}},
		{what: "foreign file", root: true, kind: "refused", says: "it belongs to the user 12345", hint: "chown root ", prepare: func(t *testing.T, path string) {
			write(t, path, "x", 0o600)
			own(t, path, [2]int{12345, 0})
		}},
		{what: "missing directory", kind: "missing-directory", says: "no such file", hint: "install -d", concernsItDir: true, prepare: func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if tt.root {
				needRoot(t, "give files away")
			}
			dir := filepath.Join(t.TempDir(), "tls")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			target := pair(dir)
			tt.prepare(t, target.Certificate)
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			path := target.Certificate
			if tt.concernsItDir {
				path = dir
			}
			if tt.above {
				path = filepath.Dir(dir)
			}
			if _, err := tryPlan(fresh(t, 1), target); !tt.above {
				refused(t, err, path, tt.kind, tt.says, tt.hint)
			}
			refused(t, deploy.Check([]deploy.Target{target}, nil), path, tt.kind, tt.says, tt.hint)
			if _, err := os.Lstat(target.PrivateKey); err == nil {
				t.Error("the key was written")
			}
		})
	}
}

func link(t *testing.T, how func(string, string) error, old, name string) {
	t.Helper()
	if err := how(old, name); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownAccounts(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ owner, group, says, hint string }{
		{"nosuchuser", "", `there is no user "nosuchuser" on this host`, "`owner`"},
		{"", "nosuchgroup", `there is no group "nosuchgroup" on this host`, "`group`"},
		{"-1", "", `there is no user "-1"`, "`owner`"},
		{"", "99999999999999999999", `there is no group`, "`group`"},
	} {
		target := combined(dir)
		target.Owner, target.Group = tt.owner, tt.group
		_, err := tryPlan(fresh(t, 1), target)
		refused(t, err, target.Combined, "files", tt.says, tt.hint)
		refused(t, deploy.Check([]deploy.Target{target}, nil), target.Combined, "files", tt.says, tt.hint)
	}
}

// TestAllProblemsAtOnce: an operator fixes the configuration in one go.
func TestAllProblemsAtOnce(t *testing.T) {
	one, two := pair(filepath.Join(t.TempDir(), "none")), pair(filepath.Join(t.TempDir(), "gone"))
	err := deploy.Check([]deploy.Target{one, two, combined(t.TempDir())}, nil)
	_, planErr := tryPlan(fresh(t, 1), one, two)
	for _, err := range []error{err, planErr} {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 4 {
			t.Errorf("got %v", err)
		}
	}
}

func TestCheckWritesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := deploy.Check([]deploy.Target{pair(dir), combined(dir)}, nil); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestRoom: a disk that is nearly full is found before an order is placed.
func TestRoom(t *testing.T) {
	dir := mountTmpfs(t, "size=128k")
	if err := deploy.Check([]deploy.Target{pair(dir)}, nil); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "fill"), string(make([]byte, 80<<10)), 0o600)
	refused(t, deploy.Check([]deploy.Target{pair(dir)}, nil), dir, "disk-full", "KiB are free", "df -h")
	inodes := mountTmpfs(t, "size=1m,nr_inodes=8")
	refused(t, deploy.Check([]deploy.Target{pair(inodes)}, nil), inodes, "disk-full", "inodes are free", "df -h")
}

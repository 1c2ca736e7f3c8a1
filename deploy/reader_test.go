package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/deploy"
)

// TestCanRead asks about the result of a deployment before there is one, and then looks whether the answer was right.
func TestCanRead(t *testing.T) {
	needRoot(t, "give files away")
	uid, gid := ids(t)
	reader, err := deploy.FindReader(anyUser)
	if err != nil || reader.UID != uid {
		t.Fatalf("%+v, %v", reader, err)
	}
	for _, tt := range []struct {
		what string
		edit func(target *deploy.Target, dir string)
		path string // that it fails at, relative to the directory; "": it can
		says string
	}{
		{"by group", func(target *deploy.Target, _ string) { target.Group = anyGroup }, "", ""},
		{"by owner", func(target *deploy.Target, _ string) { target.Owner, target.Mode = anyUser, 0o600 }, "", ""},
		{"root alone", func(*deploy.Target, string) {}, "mx.key", "could not read the file"},
		{"group without right", func(target *deploy.Target, _ string) { target.Group, target.Mode = anyGroup, 0o600 }, "mx.key", "mode 0600"},
		{"the group of a setgid directory", func(_ *deploy.Target, dir string) { own(t, dir, [2]int{0, gid}); chmod(t, dir, 0o750|os.ModeSetgid) }, "", ""},
		{"directory closed", func(target *deploy.Target, dir string) { target.Group = anyGroup; chmod(t, dir, 0o700) }, ".", "may not search the directory"},
		{"directory above closed", func(target *deploy.Target, dir string) { target.Group = anyGroup; chmod(t, filepath.Dir(dir), 0o700) }, "..", "may not search the directory"},
		{"generations, by group", func(target *deploy.Target, dir string) { *target = generation(dir); target.Group = anyGroup }, "", ""},
		{"generations, root alone", func(target *deploy.Target, dir string) { *target = generation(dir) }, "mx.generations/new/privkey.pem", "could not read"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			outer := t.TempDir()
			chmod(t, filepath.Dir(outer), 0o755)
			dir := filepath.Join(outer, "tls")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			target := pair(dir)
			tt.edit(&target, dir)
			err := reader.CanRead([]deploy.Target{target})
			if e, ok := errors.AsType[*deploy.UnreadableError](err); ok != (tt.path != "") || ok && (e.Path != filepath.Join(dir, tt.path) || !strings.Contains(e.Error(), tt.says) || e.Hint() == "") {
				t.Errorf("got %v", err)
			}
			if err := plan(t, fresh(t, 1), target).Apply(keepNothing); err != nil {
				t.Fatal(err)
			}
			key := target.PrivateKey
			if target.Directory != "" {
				key = filepath.Join(target.Directory, "privkey.pem")
			}
			asUser(t, uid, gid, func() {
				if _, err := os.ReadFile(key); (err == nil) != (tt.path == "") {
					t.Errorf("in fact: %v", err)
				}
			})
		})
	}
	if _, err := deploy.FindReader("nosuchuser"); err == nil {
		t.Error("there is no such user")
	}
}

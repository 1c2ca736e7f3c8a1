package deploy_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"mxcert/deploy"
)

// TestReadable asks about the result of a deployment before there is one, and then looks whether the answer was right.
func TestReadable(t *testing.T) {
	needRoot(t, "give files away")
	uid, gid := ids(t)
	for _, tt := range []struct {
		what string
		edit func(target *deploy.Target, dir string)
		path string // that it fails at, relative to the directory; "": it can
		says string
		hint string
	}{
		{"by group", func(target *deploy.Target, _ string) { target.Group = anyGroup }, "", "", ""},
		{"by owner", func(target *deploy.Target, _ string) { target.Owner, target.Mode = anyUser, 0o600 }, "", "", ""},
		{"root alone", func(*deploy.Target, string) {}, "mx.key", "runs as daemon, which may not read this file", "`group:` (a group that daemon is in)"},
		{"group without right", func(target *deploy.Target, _ string) { target.Group, target.Mode = anyGroup, 0o600 }, "mx.key", "mode 0600", "`group:` (a group that daemon is in)"},
		{"the group of a setgid directory", func(_ *deploy.Target, dir string) { own(t, dir, [2]int{0, gid}); chmod(t, dir, 0o750|os.ModeSetgid) }, "", "", ""},
		{"directory closed", func(target *deploy.Target, dir string) { target.Group = anyGroup; chmod(t, dir, 0o700) }, ".", "may not search this directory", "chgrp GROUP "},
		{"directory above closed", func(target *deploy.Target, dir string) { target.Group = anyGroup; chmod(t, filepath.Dir(dir), 0o700) }, "..", "may not search this directory", "chgrp GROUP "},
		{"generations, by group", func(target *deploy.Target, dir string) { *target = generation(dir); target.Group = anyGroup }, "", "", ""},
		{"generations, root alone", func(target *deploy.Target, dir string) { *target = generation(dir) }, "mx.generations/new/privkey.pem", "may not read", "`group:` (a group that daemon is in)"},
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
			for _, user := range []string{anyUser, strconv.Itoa(uid)} {
				err := deploy.Readable(user, []deploy.Target{target}, nil)
				if tt.path != "" {
					refused(t, err, filepath.Join(dir, tt.path), "unreadable", tt.says, tt.hint)
				} else if err != nil {
					t.Errorf("got %v", err)
				}
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
	if err := deploy.Readable("nosuchuser", nil, nil); err == nil {
		t.Error("there is no such user")
	}
}

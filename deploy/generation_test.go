package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

func generation(dir string) deploy.Target {
	return deploy.Target{Kind: "files", Directory: filepath.Join(dir, "mx")}
}

// leadsTo checks that a server finds the bundle behind the link.
func leadsTo(t *testing.T, b *bundle.Bundle, target deploy.Target) {
	t.Helper()
	holds(t, b, deploy.Target{Certificate: filepath.Join(target.Directory, "fullchain.pem"), PrivateKey: filepath.Join(target.Directory, "privkey.pem"),
		Combined: filepath.Join(target.Directory, "combined.pem")})
	noStaging(t, filepath.Dir(target.Directory))
	noStaging(t, target.Directory+".generations")
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	leads, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return leads
}

func TestGenerations(t *testing.T) {
	target := generation(t.TempDir())
	first, second := fresh(t, 1), fresh(t, 2)
	p := plan(t, first, target)
	if c := p.Summary().Changes; len(c) != 2 || c[0].Path != filepath.Join(filepath.Dir(target.Directory), c[1].After.Link) || c[1].Path != target.Directory || c[1].Why != "missing" {
		t.Errorf("plan %+v", c)
	}
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	leadsTo(t, first, target)
	if !plan(t, first, target).Summary().Empty() {
		t.Error("it is not done")
	}
	before := readlink(t, target.Directory)
	p = plan(t, second, target)
	if err := p.Summary().Revertible(time.Now()); err != nil {
		t.Error(err)
	}
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	leadsTo(t, second, target)
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	leadsTo(t, first, target)
	if now := readlink(t, target.Directory); now != before {
		t.Errorf("after the way back the link leads to %s, not %s", now, before)
	}
}

func TestGenerationsAreHealed(t *testing.T) {
	target := generation(t.TempDir())
	b := fresh(t, 1)
	for _, damage := range []struct {
		what string
		do   func(t *testing.T, key string)
		why  string
	}{
		{"a file is gone", func(t *testing.T, key string) {
			if err := os.Remove(key); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
		{"a file was written over", func(t *testing.T, key string) { write(t, key, "x", 0o640) }, "content"},
		{"the key is for everybody", func(t *testing.T, key string) { chmod(t, key, 0o644) }, "mode or owner"},
		{"the directory is closed", func(t *testing.T, key string) { chmod(t, filepath.Dir(key), 0o700) }, "mode or owner"},
		{"the directory around is closed", func(t *testing.T, key string) { chmod(t, target.Directory+".generations", 0o700) }, "mode or owner"},
		{"the generation is gone", func(t *testing.T, key string) {
			if err := os.RemoveAll(target.Directory + ".generations"); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
	} {
		if err := plan(t, b, target).Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
		damage.do(t, filepath.Join(target.Directory, "privkey.pem"))
		p := plan(t, b, target)
		if c := p.Summary().Changes; len(c) != 2 || c[1].Why != damage.why {
			t.Errorf("%s: %+v", damage.what, c)
		}
		if err := p.Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
		leadsTo(t, b, target)
	}
}

// TestWhatWasPutIntoAGenerationIsKept: the old generations go in the end, and a key that somebody put into one must not go with it.
func TestWhatWasPutIntoAGenerationIsKept(t *testing.T) {
	target := generation(t.TempDir())
	first := fresh(t, 1)
	apply(t, first, target)
	key := filepath.Join(target.Directory, "privkey.pem")
	write(t, key, "an operator's key", 0o640)
	kept := map[string]string{}
	keep := func(path string, content []byte) error { kept[path] = string(content); return nil }
	if err := plan(t, first, target).Apply(keep); err != nil {
		t.Fatal(err)
	}
	if kept[key] != "an operator's key" || len(kept) != 3 {
		t.Errorf("kept is %q", kept)
	}
}

func TestOldGenerationsGo(t *testing.T) {
	target := generation(t.TempDir())
	for serial := range int64(7) {
		if err := plan(t, fresh(t, serial+1), target).Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(target.Directory + ".generations")
	if err != nil {
		t.Fatal(err)
	}
	var serials []string
	for _, e := range entries {
		serials = append(serials, e.Name()[:2])
	}
	if want := []string{"04", "05", "06", "07"}; !slices.Equal(serials, want) {
		t.Errorf("left: %q, want %q", serials, want)
	}
}

func TestGenerationLinkOfSomebodyElse(t *testing.T) {
	for _, tt := range []struct{ leads, says string }{
		{"/etc/letsencrypt/live/mx", "leads elsewhere"}, {"mx.generations/../secret", "leads elsewhere"}, {"mx.generations/..", "leads elsewhere"}, {"", "puts a symbolic link"},
	} {
		target := generation(t.TempDir())
		if tt.leads == "" {
			write(t, target.Directory, "x", 0o600)
		} else {
			link(t, os.Symlink, tt.leads, target.Directory)
		}
		_, err := tryPlan(fresh(t, 1), target)
		refused(t, err, target.Directory, "refused", tt.says, "move it away")
		refused(t, deploy.Check([]deploy.Target{target}, nil), target.Directory, "refused", tt.says, "move it away")
	}
}

// TestServiceGenerations: the service, which may not change the group of a file, makes generations in a setgid directory. They have the
// directory's group, as pairs there have, and the second look finds nothing to do.
func TestServiceGenerations(t *testing.T) {
	needRoot(t, "become another user")
	uid, gid := ids(t)
	dir := ownedDir(t, uid, 54321)
	chmod(t, dir, 0o750|os.ModeSetgid)
	target := generation(dir)
	asUser(t, uid, gid, func() {
		for _, serial := range []int64{1, 2} {
			b := fresh(t, serial)
			if err := deploy.Check([]deploy.Target{target}, nil); err != nil {
				t.Fatal(err)
			}
			p := plan(t, b, target)
			if err := p.Apply(keepNothing); err != nil {
				t.Fatal(err)
			}
			leadsTo(t, b, target)
			if left := plan(t, b, target).Summary(); !left.Empty() {
				t.Errorf("left to do: %+v", left.Changes)
			}
		}
	})
	paths := []string{target.Directory + ".generations", filepath.Join(dir, readlink(t, target.Directory))}
	for _, path := range append(paths, filepath.Join(paths[1], "privkey.pem"), filepath.Join(paths[1], "fullchain.pem")) {
		if s := stat(t, path); s.Gid != 54321 || s.Mode&0o027 != 0 || s.Mode&0o040 == 0 {
			t.Errorf("%s has group %d and mode %o", path, s.Gid, s.Mode&0o7777)
		}
	}
}

package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// TestTry: the candidates are complete and have the access of the files that they will be; nothing has changed yet, and an
// objection stops the deployment.
func TestTry(t *testing.T) {
	dir := t.TempDir()
	target := pair(dir)
	first := fresh(t, 1)
	apply(t, first, target)
	next := renewed(t, first, 2)
	for _, objection := range []error{errors.New("no"), nil} {
		p := plan(t, next, target)
		called := false
		p.Try(func(staged []deploy.Target) error {
			called = true
			holds2(t, first.FullchainPEM(), target.Certificate)
			if len(staged) != 1 || staged[0].PrivateKey != target.PrivateKey {
				t.Errorf("the key does not change: %+v", staged)
			}
			path := staged[0].Certificate
			holds2(t, next.FullchainPEM(), path)
			if filepath.Dir(filepath.Dir(path)) != dir || mode(t, path) != 0o640 {
				t.Errorf("the candidate is %s, mode %o", path, mode(t, path))
			}
			return objection
		})
		if err := p.Apply(keepNothing); !errors.Is(err, objection) || !called {
			t.Errorf("called %v, %v", called, err)
		}
		if objection != nil {
			holds(t, first, target)
		}
	}
	holds(t, next, target)
}

// TestTryGeneration: what a link will lead to can be opened before the link is there.
func TestTryGeneration(t *testing.T) {
	dir := t.TempDir()
	target := deploy.Target{Directory: filepath.Join(dir, "mx"), Mode: 0o640}
	first := fresh(t, 1)
	for _, b := range []*bundle.Bundle{first, renewed(t, first, 2)} {
		p := plan(t, b, target)
		called := false
		p.Try(func(staged []deploy.Target) error {
			called = true
			for _, pair := range staged[0].Pairs(b) {
				want := b.FullchainPEM()
				if pair.Certificate == pair.Key {
					want = b.CombinedPEM()
				}
				holds2(t, want, pair.Certificate)
			}
			return nil
		})
		if err := p.Apply(keepNothing); err != nil || !called {
			t.Fatalf("called %t, %v", called, err)
		}
		holds2(t, b.CombinedPEM(), filepath.Join(target.Directory, "combined.pem"))
	}
}

func holds2(t *testing.T, want []byte, path string) {
	t.Helper()
	if string(read(t, path)) != string(want) {
		t.Errorf("%s holds something else", path)
	}
}

// TestTakenBackWithoutRoom: a rename in the middle fails on a full disk, and what came before it is taken back all the same.
func TestTakenBackWithoutRoom(t *testing.T) {
	full, other := mountTmpfs(t, "size=64k"), t.TempDir()
	keyFirst := deploy.Target{PrivateKey: filepath.Join(full, "mx.key"), Certificate: filepath.Join(other, "mx.crt"), Mode: 0o640}
	old := fresh(t, 1)
	apply(t, old, keyFirst)
	immutable(t, keyFirst.Certificate)
	p := plan(t, fresh(t, 2), keyFirst)
	p.Try(func([]deploy.Target) error {
		fill, err := os.Create(filepath.Join(full, "fill"))
		if err != nil {
			return err
		}
		defer func() { _ = fill.Close() }()
		for err == nil {
			_, err = fill.Write(make([]byte, 4096))
		}
		return nil
	})
	refused(t, p.Apply(keepNothing), keyFirst.Certificate, "permission", "operation not permitted (EPERM)", "lsattr")
	holds(t, old, keyFirst)
}

// TestRemembered: what a file was given is put back, whatever a package upgrade has made of it.
func TestRemembered(t *testing.T) {
	needRoot(t, "give files away")
	_, gid := ids(t)
	target := pair(t.TempDir())
	target.Mode = 0
	b := fresh(t, 1)
	write(t, target.PrivateKey, "x", 0o600)
	own(t, target.PrivateKey, [2]int{0, gid})
	p := plan(t, b, target)
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	remembered := p.Accesses()
	again := func(b *bundle.Bundle, target deploy.Target) *deploy.Plan {
		p, err := deploy.Make("mx", []deploy.Job{{Bundle: b, Target: target}}, remembered)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if !again(b, target).Summary().Empty() {
		t.Error("it is not done")
	}
	own(t, target.PrivateKey, [2]int{0, 0})
	chmod(t, target.PrivateKey, 0o640)
	chmod(t, target.Certificate, 0o600)
	if c := again(b, target).Summary().Changes; len(c) != 2 || c[0].Before.Mode != "0640" || c[0].After.Mode != "0600" || c[0].After.Group != anyGroup || c[0].Before.Group != "root" {
		t.Errorf("changes: %+v", c)
	}
	if err := again(renewed(t, b, 2), target).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	if s := stat(t, target.PrivateKey); int(s.Gid) != gid || mode(t, target.PrivateKey) != 0o600 || mode(t, target.Certificate) != 0o640 {
		t.Errorf("key: group %d, mode %o; certificate: mode %o", s.Gid, mode(t, target.PrivateKey), mode(t, target.Certificate))
	}
	target.Mode = 0o440
	if c := again(b, target).Summary().Changes; len(c) != 2 || c[0].After.Mode != "0440" {
		t.Errorf("what is configured does not win: %+v", c)
	}
}

func TestTouch(t *testing.T) {
	dir := t.TempDir()
	target := pair(dir)
	b := fresh(t, 1)
	apply(t, b, target)
	before := stat(t, dir).Mtim
	if err := plan(t, b, target).Touch(); err != nil {
		t.Fatal(err)
	}
	if stat(t, dir).Mtim == before {
		t.Error("no server could have noticed")
	}
	noStaging(t, dir)
}

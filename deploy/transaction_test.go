package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// newBundle makes a self-signed certificate; with a key, for that key.
func newBundle(t *testing.T, serial int64, key *ecdsa.PrivateKey, ends time.Time) *bundle.Bundle {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"mx.example.org"},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var soon = time.Now().Add(24 * time.Hour)

func pair(dir string) Target {
	return Target{Kind: "files", Certificate: filepath.Join(dir, "mx.crt"), PrivateKey: filepath.Join(dir, "mx.key"), Mode: 0o640}
}

func keepNothing(string, []byte) error { return nil }

// put deploys and expects success; it gives the plan.
func put(t *testing.T, target Target, b *bundle.Bundle) *Plan {
	t.Helper()
	plan, err := Make("mx", []Job{{Bundle: b, Target: target}})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	return plan
}

// holds checks that the target holds the bundle, and that nothing of the staging is left.
func holds(t *testing.T, target Target, want *bundle.Bundle) {
	t.Helper()
	plan, err := Make("mx", []Job{{Bundle: want, Target: target}})
	if err != nil || !plan.Empty() {
		t.Errorf("the files differ: %+v (%v)", plan.Changes(), err)
	}
	for _, path := range []string{target.Certificate, target.Combined} {
		if path == "" {
			continue
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), stagingPrefix+"*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestFirstSameKeyAndNewKey(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	first, sameKey, otherKey := newBundle(t, 1, key, soon), newBundle(t, 2, key, soon), newBundle(t, 3, newKey(t), soon)
	target := pair(dir)
	if plan := put(t, target, first); len(plan.Changes()) != 2 || !plan.ContentChanges() {
		t.Errorf("first: %+v", plan.Changes())
	}
	holds(t, target, first)
	keyInode := inode(t, target.PrivateKey)
	if plan := put(t, target, sameKey); len(plan.Changes()) != 1 || plan.Changes()[0].Path != target.Certificate {
		t.Errorf("same key: %+v", plan.Changes())
	}
	if inode(t, target.PrivateKey) != keyInode {
		t.Error("the key was written again although it is the same")
	}
	holds(t, target, sameKey)
	put(t, target, otherKey)
	holds(t, target, otherKey)
	if plan := put(t, target, otherKey); !plan.Empty() {
		t.Errorf("nothing to do: %+v", plan.Changes())
	}
}

func TestRevertPutsBackContentModeAndOwner(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	old, next := newBundle(t, 1, key, soon), newBundle(t, 2, newKey(t), soon)
	target := pair(dir)
	put(t, target, old)
	if err := os.Chmod(target.PrivateKey, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := put(t, target, next)
	if err := plan.Revertible(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := plan.Revert(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target.PrivateKey); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v (%v)", info.Mode(), err)
	}
	target.Mode = 0o600
	if err := os.Chmod(target.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, target, old)
}

func TestRevertible(t *testing.T) {
	key := newKey(t)
	next := newBundle(t, 9, newKey(t), soon)
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, target Target)
		good    bool
	}{
		"nothing before": {func(*testing.T, Target) {}, false},
		"good pair":      {func(t *testing.T, target Target) { put(t, target, newBundle(t, 1, key, soon)) }, true},
		"expired":        {func(t *testing.T, target Target) { put(t, target, newBundle(t, 1, key, time.Now().Add(-time.Hour))) }, false},
		"mismatched": {func(t *testing.T, target Target) {
			put(t, target, newBundle(t, 1, key, soon))
			if err := os.WriteFile(target.PrivateKey, newBundle(t, 2, newKey(t), soon).KeyPEM(), 0o640); err != nil {
				t.Fatal(err)
			}
		}, false},
		"certificate alone": {func(t *testing.T, target Target) {
			put(t, target, newBundle(t, 1, key, soon))
			if err := os.Remove(target.PrivateKey); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		for _, layout := range []string{"pair", "combined"} {
			dir := t.TempDir()
			target := pair(dir)
			if layout == "combined" {
				if name == "mismatched" || name == "certificate alone" {
					continue
				}
				target = Target{Kind: "files", Combined: filepath.Join(dir, "mx.pem"), Mode: 0o640}
			}
			tt.prepare(t, target)
			plan, err := Make("mx", []Job{{Bundle: next, Target: target}})
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Revertible(time.Now()); (err == nil) != tt.good {
				t.Errorf("%s, %s: %v", name, layout, err)
			}
		}
	}
}

func TestModeAndOwnerAreMended(t *testing.T) {
	b := newBundle(t, 1, newKey(t), soon)
	target := pair(t.TempDir())
	put(t, target, b)
	if err := os.Chmod(target.PrivateKey, 0o644); err != nil {
		t.Fatal(err)
	}
	plan := put(t, target, b)
	if len(plan.Changes()) != 1 || plan.ContentChanges() || plan.Changes()[0].Why != "mode or owner" {
		t.Errorf("%+v", plan.Changes())
	}
	holds(t, target, b)
	if os.Geteuid() != 0 {
		return // the rest needs the right to give files away
	}
	target.Owner, target.Group = "1", "daemon"
	put(t, target, b)
	info, err := os.Stat(target.PrivateKey)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 1 || info.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("owner %+v (%v)", info.Sys(), err)
	}
	target.Owner, target.Group = "", "" // not configured: what is there stays
	put(t, target, newBundle(t, 2, newKey(t), soon))
	if info, err := os.Stat(target.PrivateKey); err != nil || info.Sys().(*syscall.Stat_t).Uid != 1 || info.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("owner after a renewal %+v (%v)", info.Sys(), err)
	}
}

func TestGroupOfASetgidDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("as another user the group is the directory's all the same, but cannot be chosen here")
		return
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chown(dir, 0, 1), os.Chmod(dir, 0o750|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	target := pair(dir)
	put(t, target, newBundle(t, 1, newKey(t), soon))
	if info, err := os.Stat(target.PrivateKey); err != nil || info.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("%+v (%v)", info.Sys(), err)
	}
}

func TestRefusals(t *testing.T) {
	b := newBundle(t, 1, newKey(t), soon)
	for name, tt := range map[string]struct {
		prepare func(dir string, target *Target) error
		kind    string
		words   string
	}{
		"symbolic link": {func(_ string, target *Target) error { return os.Symlink("/etc/hostname", target.Certificate) }, "refused", "symbolic link"},
		"hard link": {func(dir string, target *Target) error {
			return errors.Join(os.WriteFile(target.Certificate, nil, 0o640), os.Link(target.Certificate, filepath.Join(dir, "other")))
		}, "refused", "hard link"},
		"directory": {func(_ string, target *Target) error { return os.Mkdir(target.Certificate, 0o750) }, "refused", "regular"},
		"large file": {func(_ string, target *Target) error {
			return os.WriteFile(target.PrivateKey, make([]byte, maxFile+1), 0o640)
		}, "refused", "larger"},
		"open to everybody": {func(dir string, _ *Target) error { return os.Chmod(dir, 0o777) }, "refused", "everybody"},
		"sticky":            {func(dir string, _ *Target) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "refused", "everybody"},
		"no directory":      {func(dir string, target *Target) error { *target = pair(filepath.Join(dir, "nowhere")); return nil }, "missing-directory", "nowhere"},
		"no such user":      {func(_ string, target *Target) error { target.Owner = "nosuchuser"; return nil }, "files", "nosuchuser"},
		"no such group":     {func(_ string, target *Target) error { target.Group = "nosuchgroup"; return nil }, "files", "nosuchgroup"},
	} {
		dir := t.TempDir()
		target := pair(dir)
		if err := tt.prepare(dir, &target); err != nil {
			t.Fatal(err)
		}
		_, makeErr := Make("mx", []Job{{Bundle: b, Target: target}})
		for _, err := range []error{makeErr, Check([]Target{target})} {
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind() != tt.kind || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), dir) || e.Hint() == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A disk that is full leaves the old files as they are, and nothing else.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("a small file system can be mounted by root only")
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0750"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	target, old := pair(dir), newBundle(t, 1, newKey(t), soon)
	put(t, target, old)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	for block := make([]byte, 4096); err == nil; {
		_, err = filler.Write(block)
	}
	if closeErr := filler.Close(); closeErr != nil {
		t.Fatal(closeErr)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	plan, err := Make("mx", []Job{{Bundle: newBundle(t, 2, newKey(t), soon), Target: target}})
	if err != nil {
		t.Fatal(err)
	}
	err = plan.Apply(keepNothing)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind() != "disk-full" || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	holds(t, target, old)
}

// A rename that fails in the middle is undone: here the certificate's path has become a directory after the plan was made.
func TestFailureInTheMiddle(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	target := Target{Kind: "files", PrivateKey: filepath.Join(a, "mx.key"), Certificate: filepath.Join(b, "mx.crt"), Mode: 0o640}
	old := newBundle(t, 1, newKey(t), soon)
	put(t, target, old)
	plan, err := Make("mx", []Job{{Bundle: newBundle(t, 2, newKey(t), soon), Target: target}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(target.Certificate), os.MkdirAll(filepath.Join(target.Certificate, "x"), 0o750)); err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(keepNothing); err == nil {
		t.Fatal("no error")
	}
	got, err := os.ReadFile(target.PrivateKey)
	if err != nil || string(got) != string(old.KeyPEM()) {
		t.Errorf("the key was not put back (%v)", err)
	}
}

func TestKeepIsAskedBeforeAnythingChanges(t *testing.T) {
	target := pair(t.TempDir())
	if err := os.WriteFile(target.Certificate, []byte("the operator's"), 0o640); err != nil {
		t.Fatal(err)
	}
	plan, err := Make("mx", []Job{{Bundle: newBundle(t, 1, newKey(t), soon), Target: target}})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("no room for a copy")
	var kept string
	err = plan.Apply(func(path string, content []byte) error { kept = path + ": " + string(content); return stop })
	if !errors.Is(err, stop) || kept != target.Certificate+": the operator's" {
		t.Errorf("kept %q, error %v", kept, err)
	}
	if text, err := os.ReadFile(target.Certificate); err != nil || string(text) != "the operator's" {
		t.Errorf("%q (%v)", text, err)
	}
	if _, err := os.Stat(target.PrivateKey); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the key was written all the same")
	}
}

func TestLeftoversOfAKilledRun(t *testing.T) {
	dir := t.TempDir()
	target := pair(dir)
	staging := filepath.Join(dir, stagingPrefix+"mx")
	if err := errors.Join(os.Mkdir(staging, 0o700), os.WriteFile(filepath.Join(staging, "mx.key"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, 1, newKey(t), soon)
	put(t, target, b)
	holds(t, target, b)
}

func TestCombinedFile(t *testing.T) {
	key := newKey(t)
	b := newBundle(t, 1, key, soon)
	target := Target{Kind: "exim", Combined: filepath.Join(t.TempDir(), "mx.pem"), Mode: 0o600}
	put(t, target, b)
	holds(t, target, b)
	text, err := os.ReadFile(target.Combined)
	if err != nil {
		t.Fatal(err)
	}
	gotKey, gotChain := splitCombined(text)
	if again, err := bundle.Parse(gotChain, gotKey); err != nil || !again.Same(b) {
		t.Errorf("the combined file gives %v (%v)", again, err)
	}
}

package deploy_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
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
	"mxcert/deploy"
)

func newKey(t testing.TB, keyType bundle.KeyType) crypto.Signer {
	t.Helper()
	key, err := keyType.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newBundle makes a self-signed certificate that ends at the given time; these tests need no more.
func newBundle(t testing.TB, key crypto.Signer, serial int64, notAfter time.Time) *bundle.Bundle {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"mx.example.org"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter}
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

func fresh(t testing.TB, serial int64) *bundle.Bundle {
	t.Helper()
	return newBundle(t, newKey(t, bundle.EC256), serial, time.Now().Add(time.Hour))
}

// renewed has the same key.
func renewed(t testing.TB, b *bundle.Bundle, serial int64) *bundle.Bundle {
	t.Helper()
	return newBundle(t, b.Key(), serial, time.Now().Add(2*time.Hour))
}

// pair and combined are targets in a directory, whose files are for their owner alone.
func pair(dir string) deploy.Target {
	return deploy.Target{Kind: "files", Certificate: filepath.Join(dir, "mx.crt"), PrivateKey: filepath.Join(dir, "mx.key"), Mode: 0o640}
}

func combined(dir string) deploy.Target {
	return deploy.Target{Kind: "files", Combined: filepath.Join(dir, "mx.pem"), Mode: 0o640}
}

func plan(t testing.TB, b *bundle.Bundle, targets ...deploy.Target) *deploy.Plan {
	t.Helper()
	p, err := tryPlan(b, targets...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryPlan(b *bundle.Bundle, targets ...deploy.Target) (*deploy.Plan, error) {
	var jobs []deploy.Job
	for _, target := range targets {
		jobs = append(jobs, deploy.Job{Bundle: b, Target: target, Names: b.Leaf().DNSNames})
	}
	return deploy.Make("mx", jobs, nil)
}

func apply(t testing.TB, b *bundle.Bundle, targets ...deploy.Target) {
	t.Helper()
	if err := plan(t, b, targets...).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	holds(t, b, targets...)
}

func keepNothing(string, []byte) error { return nil }

// holds checks that the files are those of the bundle, and that nothing else is left beside them.
func holds(t testing.TB, b *bundle.Bundle, targets ...deploy.Target) {
	t.Helper()
	for _, target := range targets {
		for path, want := range map[string][]byte{target.Certificate: b.FullchainPEM(), target.PrivateKey: b.KeyPEM(), target.Combined: b.CombinedPEM()} {
			if path == "" {
				continue
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s does not hold certificate %s: %v", path, b.Serial(), err)
			}
			noStaging(t, filepath.Dir(path))
		}
	}
}

func noStaging(t testing.TB, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, ".mxcert*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	return stat(t, path).Ino
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no stat")
	}
	return s
}

func mode(t testing.TB, path string) fs.FileMode {
	t.Helper()
	return fs.FileMode(stat(t, path).Mode & 0o7777)
}

func write(t testing.TB, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// refused checks an error: its path, its kind, and that it says what is wrong and what to do.
func refused(t testing.TB, err error, path, kind, says, hint string) {
	t.Helper()
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok {
		t.Errorf("got %v", err)
		return
	}
	if e.Path != path || e.Kind() != kind || !strings.Contains(e.Error(), path+": ") || !strings.Contains(e.Error(), says) || !strings.Contains(e.Hint(), hint) {
		t.Errorf("%v\npath %s, kind %s, hint %s", e, e.Path, e.Kind(), e.Hint())
	}
	if strings.Contains(e.Error(), ".mxcert") || strings.Contains(e.Error(), "PRIVATE") {
		t.Errorf("%v is not for people", e)
	}
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can " + why)
	}
}

// mountTmpfs mounts a small file system.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	needRoot(t, "mount")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options+",mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

package disk_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/storetest"
)

// TestStore: the contract.
func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() state.Store {
		path := filepath.Join(t.TempDir(), "state")
		return func() state.Store { return disk.At(path) }
	})
}

// childEnv makes the test binary a second process that takes a lock, says so and keeps it.
const childEnv = "MXCERT_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		holdLock(path)
		return
	}
	os.Exit(m.Run())
}

func holdLock(path string) {
	_, err := disk.At(path).Lock(context.Background(), "lineages/mx/lock")
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	fmt.Println("held")
	select {}
}

func open(t testing.TB) *state.Book {
	t.Helper()
	store, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return state.New(store)
}

// newBundle makes a self-signed certificate: the store looks at nothing but the key.
func newBundle(t testing.TB, keyType bundle.KeyType, serial int64) *bundle.Bundle {
	t.Helper()
	key, err := keyType.Generate()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"mx.example.org"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
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

func write(t testing.TB, content string, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func makeDir(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// asOwner runs work as an ordinary user, to whom it gives all below path: for root by the file system's IDs of a thread
// (setfsuid(2)).
func asOwner(t *testing.T, path string, work func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		work()
		return
	}
	const user = 65534
	for above := filepath.Dir(path); above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o711); err != nil { //nolint:gosec // the user has to pass
			t.Fatal(err)
		}
	}
	err := filepath.Walk(path, func(path string, _ fs.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, user, user))
	})
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { _, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0) }()
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, user, 0, 0)
	work()
}

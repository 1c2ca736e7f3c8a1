package deploy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mxcert/deploy"
)

// TestFullDisk at every point: the old files stay, and nothing half stays beside them.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=64k,nr_inodes=1k")
	old, next := fresh(t, 1), fresh(t, 2)
	targets := []deploy.Target{pair(dir), combined(dir)}
	apply(t, old, targets...)
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fill.Close() }()
	size := int64(0)
	for ; ; size += 4096 {
		if _, err := fill.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	failures := 0
	for ; ; size -= 4096 { // one page more is free each time
		if err := fill.Truncate(size); err != nil {
			t.Fatal(err)
		}
		err := plan(t, next, targets...).Apply(keepNothing)
		if err == nil {
			break
		}
		failures++
		e, ok := errors.AsType[*deploy.Error](err)
		if !ok || e.Kind() != "disk-full" || !strings.Contains(e.Error(), "no space left on device") || !strings.Contains(e.Hint(), "df -h") || strings.Contains(e.Error(), ".mxcert") {
			t.Errorf("%d pages free: %v", failures, err)
		}
		holds(t, old, targets...)
	}
	if failures < 3 {
		t.Errorf("only %d attempts failed", failures)
	}
	holds(t, next, targets...)
}

func TestReadOnlyMount(t *testing.T) {
	dir := mountTmpfs(t, "size=256k")
	old, target := fresh(t, 1), pair(dir)
	apply(t, old, target)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=256k"); err != nil {
		t.Fatal(err)
	}
	refused(t, deploy.Check([]deploy.Target{target}, nil), dir, "read-only", "read-only file system", "findmnt -T "+dir)
	refused(t, plan(t, fresh(t, 2), target).Apply(keepNothing), target.PrivateKey, "read-only", "read-only file system", "findmnt")
	holds(t, old, target)
}

// immutable makes a file one that cannot be replaced, not even by root (chattr +i), or skips the test.
func immutable(t *testing.T, path string) {
	t.Helper()
	needRoot(t, "make files immutable")
	set := func(flags int) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		return unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	const immutableFlag = 0x10
	if err := set(immutableFlag); errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		t.Skipf("this file system knows no immutable files: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set(0) })
}

// TestFailingRename: a rename in the middle fails, and those before it are taken back.
func TestFailingRename(t *testing.T) {
	for _, tt := range []struct {
		what   string
		before func(t *testing.T, target deploy.Target) // the certificate is there already
	}{
		{"the key is replaced and put back", func(t *testing.T, target deploy.Target) {
			old := fresh(t, 1)
			write(t, target.Certificate, string(old.FullchainPEM()), 0o640)
			write(t, target.PrivateKey, string(old.KeyPEM()), 0o604)
		}},
		{"the key is new and taken away", func(t *testing.T, target deploy.Target) { write(t, target.Certificate, "old", 0o640) }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			target := pair(dir)
			tt.before(t, target)
			before := snapshot(t, dir)
			immutable(t, target.Certificate)
			err := plan(t, fresh(t, 2), target).Apply(keepNothing)
			refused(t, err, target.Certificate, "permission", "operation not permitted", "lsattr")
			if after := snapshot(t, dir); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// snapshot describes all files of a directory.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s %o %d:%d\n%s\n", e.Name(), mode(t, filepath.Join(dir, e.Name())), stat(t, filepath.Join(dir, e.Name())).Uid, stat(t, filepath.Join(dir, e.Name())).Gid, content)
	}
	return text.String()
}

// TestRevertIsAllOrNothing: half of an old pair does not match the other half of the new one.
func TestRevertIsAllOrNothing(t *testing.T) {
	small, large := mountTmpfs(t, "size=64k"), t.TempDir()
	target := deploy.Target{Certificate: filepath.Join(small, "mx.crt"), PrivateKey: filepath.Join(large, "mx.key"), Mode: 0o640}
	old, next := fresh(t, 1), fresh(t, 2)
	apply(t, old, target)
	p := plan(t, next, target)
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	fill, err := os.Create(filepath.Join(small, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	_ = fill.Close()
	refused(t, p.Revert(), target.Certificate, "disk-full", "no space left", "df -h")
	holds(t, next, target)
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	holds(t, old, target)
}

// TestLeftoverStaging of a killed run is removed, whatever is in it: it holds a private key.
func TestLeftoverStaging(t *testing.T) {
	dir := t.TempDir()
	old := fresh(t, 1)
	target := pair(dir)
	apply(t, old, target)
	staging := filepath.Join(dir, ".mxcert-mx")
	if err := os.Mkdir(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mx.key", "mx.crt", "name-of-an-older-configuration.key"} {
		write(t, filepath.Join(staging, name), string(old.KeyPEM()), 0o600)
	}
	apply(t, renewed(t, old, 2), target) // does not write the key
	foreign := filepath.Join(dir, ".mxcert-another-lineage")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := plan(t, fresh(t, 3), target).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(foreign); err != nil {
		t.Error("that of another lineage, which may be at work, is gone")
	}
}

// TestStagingLink: whoever may write into the directory could replace the staging directory by a link.
func TestStagingLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	link(t, os.Symlink, elsewhere, filepath.Join(dir, ".mxcert-mx"))
	apply(t, fresh(t, 1), pair(dir))
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("something went through the link: %v, %v", entries, err)
	}
}

func TestNoDescriptorsAreLeft(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	dir := t.TempDir()
	b := fresh(t, 1)
	blocked := pair(filepath.Join(dir, "none"))
	bad := combined(dir)
	bad.Owner = "nosuchuser"
	before := count()
	for i := range 20 {
		p := plan(t, renewed(t, b, int64(i+2)), pair(dir), combined(dir))
		if err := p.Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
		if err := p.Revert(); err != nil {
			t.Fatal(err)
		}
		_, err := tryPlan(b, blocked, bad)
		if err == nil || deploy.Check([]deploy.Target{blocked, bad}, nil) == nil {
			t.Fatal("no error")
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

package setup

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// The mode is the one asked for, whatever the umask; what was there before is replaced, not followed or filled.
func TestWriteFile(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	for what, prepare := range map[string]func(path, other string) error{
		"nothing there": func(string, string) error { return nil },
		"a file":        func(path, _ string) error { return os.WriteFile(path, []byte("a much longer old text"), 0o600) },
		"a link":        func(path, other string) error { return os.Symlink(other, path) },
		"an old temporary": func(path, _ string) error {
			return os.WriteFile(path+".new", []byte("left by a crash, and longer"), 0o666)
		},
		"a link in wait": func(path, other string) error { return os.Symlink(other, path+".new") },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "file"), filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.WriteFile(other, []byte("other"), 0o600), prepare(path, other)); err != nil {
				t.Fatal(err)
			}
			if err := WriteFile(path, "text\n", 0o644, -1, os.Getgid()); err != nil {
				t.Fatal(err)
			}
			if read(t, path) != "text\n" || mode(t, path) != 0o644 || read(t, other) != "other" || len(entries(t, dir)) != 1 {
				t.Errorf("%q, mode %v, other %q, %v", read(t, path), mode(t, path), read(t, other), entries(t, dir))
			}
		})
	}
}

// A failure leaves what was there, and no temporary file.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directory")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, "text", 0o644, -1, -1); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if got := entries(t, dir); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
	if err := WriteFile(filepath.Join(dir, "missing", "file"), "text", 0o644, -1, -1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestWriteAllThroughALink: a file instead of a link has the mode of the file that the link led to, not that of the link.
func TestWriteAllThroughALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, target := filepath.Join(dir, "main.cf"), filepath.Join(dir, "target")
	if err := errors.Join(os.WriteFile(target, []byte("old"), 0o640), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	before, err := lookAt(path)
	if err != nil || before.mode != 0o640 || before.text != "old" {
		t.Fatalf("%+v, %v", before, err)
	}
	f := before.file
	f.text = "new"
	if _, err := writeAll([]file{f}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
}

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

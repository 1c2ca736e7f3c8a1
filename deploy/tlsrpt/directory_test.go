package tlsrpt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// put writes a file that changed at another time than those before.
func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := func(name string) time.Time {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return changeOf(info)
	}
	other := filepath.Join(t.TempDir(), "clock") // the clock of files goes in ticks of milliseconds
	for {
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if changed(other).After(changed(file)) {
			return
		}
	}
}

func paths(t *testing.T, directory string, after time.Time) (names []string, last time.Time) {
	t.Helper()
	rest, err := Directory(t.Context(), directory, after, func(f File) {
		name := f.Path
		if f.Err != nil {
			name += ": " + f.Err.Error()
		}
		names, last = append(names, name), f.Changed
	})
	if rest != 0 || err != nil {
		t.Errorf("%d files are left, %v", rest, err)
	}
	return names, last
}

// A maildir is read without its unfinished mails, in the order in which files appeared, and later only what is new; what is moved in is new.
func TestMaildir(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	in := func(name string) string { return filepath.Join(directory, name) }
	mail := attached("application/tlsrpt+json", report(t))
	old := filepath.Join(t.TempDir(), "old")
	put(t, old, mail)
	put(t, in("new/2.host"), mail)
	put(t, in("cur/1.host:2,S"), mail)
	put(t, in(".Reports/cur/3.host"), mail)
	put(t, in("tmp/4.host"), mail)
	put(t, in(".hidden"), mail)
	put(t, in("hello"), "Subject: hello\n\nhello\n")
	for name, target := range map[string]string{"link": "new/2.host", "loop": ".", "zero": "/dev/zero"} {
		if err := os.Symlink(target, in(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(in("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	names, last := paths(t, directory, time.Time{})
	if want := []string{"new/2.host", "cur/1.host:2,S", ".Reports/cur/3.host", "hello: " + ErrNone.Error()}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if names, _ = paths(t, directory, last); len(names) != 0 {
		t.Errorf("read again: %q", names)
	}
	if err := os.Rename(old, in("new/5.host")); err != nil {
		t.Fatal(err)
	}
	if names, _ = paths(t, directory, last); !slices.Equal(names, []string{"new/5.host"}) {
		t.Errorf("%q", names)
	}
}

// A directory that is not there, and one that is a file, are errors; one that ends while it is read is none.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "x")
	for _, name := range []string{file, file + "/x", filepath.Join(t.TempDir(), "none")} {
		if _, err := Directory(t.Context(), name, time.Time{}, func(File) { t.Error("a file was read") }); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package page_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

func put(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// TestWrite: a new file gets mode 0640, a replaced one keeps its mode, a link is replaced, and nothing else is left.
func TestWrite(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	file, other := filepath.Join(directory, "index.html"), filepath.Join(t.TempDir(), "other")
	want := func(text string, mode os.FileMode) {
		t.Helper()
		got, err := os.ReadFile(file)
		info, errInfo := os.Lstat(file)
		if err != nil || errInfo != nil || string(got) != text || info.Mode() != mode {
			t.Errorf("%q, %v, %v, %v", got, info, err, errInfo)
		}
		if list, _ := os.ReadDir(directory); len(list) != 1 {
			t.Errorf("left behind: %v", list)
		}
	}
	if err := page.Write(file, put("one")); err != nil {
		t.Fatal(err)
	}
	want("one", 0o640)
	if err := errors.Join(os.Chmod(file, 0o644), page.Write(file, put("two"))); err != nil {
		t.Fatal(err)
	}
	want("two", 0o644)
	if err := page.Write(file, func(io.Writer) error { return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	want("two", 0o644)
	if err := errors.Join(os.WriteFile(other, []byte("other"), 0o600), os.Remove(file), os.Symlink(other, file), page.Write(file, put("three"))); err != nil {
		t.Fatal(err)
	}
	want("three", 0o640)
	if text, _ := os.ReadFile(other); string(text) != "other" {
		t.Errorf("the link was followed: %q", text)
	}
	for path, hint := range map[string]string{filepath.Join(directory, "missing", "x.html"): "install -d -o mxcert", directory: "name a file in that directory", "/proc/x.html": ""} {
		err := page.Write(path, put("x"))
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), ".new") || !strings.Contains(report.HintOf(err), hint) {
			t.Errorf("%s: %v, %s", path, err, report.HintOf(err))
		}
	}
}

// What is no file stays: a device, a pipe, what a link leads to. The test makes its own: it must not cost the host its /dev/null.
func TestWriteKeepsDevices(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	pipe, link, out, nowhere, inner := filepath.Join(directory, "pipe"), filepath.Join(directory, "link"), filepath.Join(directory, "stdout"), filepath.Join(directory, "nowhere"), filepath.Join(directory, "inner")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, link), os.Symlink("/proc/self/fd/1", out), os.Symlink("missing", nowhere), os.Symlink(directory, inner)); err != nil {
		t.Fatal(err)
	}
	for path, hint := range map[string]string{pipe: "or - for standard output", link: "or - for standard output", out: "or - for standard output", inner: "name a file in that directory"} {
		before, _ := os.Lstat(path)
		err := page.Write(path, put("x"))
		after, _ := os.Lstat(path)
		if err == nil || !strings.Contains(report.HintOf(err), hint) || !os.SameFile(before, after) {
			t.Errorf("%s: %v, %q, %v", path, err, report.HintOf(err), after)
		}
	}
	if err := page.Write(nowhere, put("x")); err != nil {
		t.Error(err)
	}
}

func nothingTold(context.Context, tell.World) page.Told { return page.Told{} }

// TestListener: the page follows what passes find, and a directory that is missing costs one line of the log.
func TestListener(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(t.TempDir(), "www")
	host := &wanted.Host{Page: filepath.Join(directory, "index.html"), Certificates: []wanted.Certificate{{Name: "mx", Names: []string{"mx.example.org"}}, {Name: "lists", Names: []string{"lists.example.org"}}}}
	var log strings.Builder
	l := page.NewListener(slog.New(slog.NewTextHandler(&log, nil)), nothingTold)
	if l.On(&wanted.Host{}) || !l.On(host) {
		t.Error("it is on without a file, or off with one")
	}
	w := tell.World{Host: host, Store: store, Release: "1.3.0", Certificates: map[string]tell.Certificate{}, Final: true} // without pauses
	for range 2 {
		if again := l.Listen(context.Background(), w); !again.After(time.Now()) {
			t.Error("it does not want to be called again")
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "the page could not be written") {
		t.Errorf("the log: %s", log.String())
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	shows := func(words ...string) {
		t.Helper()
		l.Listen(context.Background(), w)
		text, err := os.ReadFile(host.Page)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(text), word) {
				t.Errorf("the page does not say %q", word)
			}
		}
	}
	shows("Not everything is known yet", "by mxcert renew")
	if !strings.Contains(log.String(), "can be written again") {
		t.Errorf("the log: %s", log.String())
	}
	w.Certificates["mx"] = tell.Certificate{Report: well("mx", "mx.example.org").Report, At: at}
	w.Certificates["lists"] = tell.Certificate{Report: well("lists", "lists.example.org").Report, At: at}
	if err := store.SaveDaemon(report.Daemon{PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	shows("All is well", "by the daemon", "2 of 2 certificates are in service")
	w.ConfigError = "mxcert.yaml:3: <wrong>"
	shows("1 fault to fix", "mxcert.yaml:3: &lt;wrong&gt;")
}

// TestListenerPauses: with many certificates, some pass ends every few seconds, and the page is not written for each.
func TestListenerPauses(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	host := &wanted.Host{Page: filepath.Join(t.TempDir(), "index.html")}
	for range 200 {
		host.Certificates = append(host.Certificates, wanted.Certificate{Name: "mx", Names: []string{"mx.example.org"}})
	}
	l := page.NewListener(slog.New(slog.DiscardHandler), nothingTold)
	w := tell.World{Host: host, Store: store, Certificates: map[string]tell.Certificate{}}
	l.Listen(context.Background(), w)
	if err := os.Remove(host.Page); err != nil {
		t.Fatal(err)
	}
	if again := l.Listen(context.Background(), w); time.Until(again) > time.Minute {
		t.Errorf("it waits until %s", again)
	}
	if _, err := os.Stat(host.Page); err == nil {
		t.Error("it was written again at once")
	}
}

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The journal gets the priority of each record, so that `journalctl -p err` shows the errors.
func TestLogPriorities(t *testing.T) {
	for stream, want := range map[string][4]string{"8:1": {"<7>level=DEBUG", "<6>level=INFO", "<4>level=WARN", "<3>level=ERROR"}, "": {"time=", "time=", "time=", "time="}} {
		t.Setenv("JOURNAL_STREAM", stream)
		var out bytes.Buffer
		log := (&app{stderr: &console{out: &out}}).logger(slog.LevelDebug).With("certificate", "mx").WithGroup("g")
		log.Debug("one")
		log.Info("two")
		log.Warn("three")
		log.Error("four", "error", "a\nb")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 4 {
			t.Fatalf("%q", lines)
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, want[i]) || !strings.Contains(line, "certificate=mx") {
				t.Errorf("JOURNAL_STREAM=%s: %s", stream, line)
			}
		}
	}
}

// A command of a unit, as that of the timer, writes its failures as errors, if its standard error is the journal and not only that of
// the session that has started it.
func TestFailuresOfACommandInTheJournal(t *testing.T) {
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	info, err := stderr.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]string{
		fmt.Sprintf("%d:%d", stat.Dev, stat.Ino):   "<6>· mx\n<4>! mx\n<3>✗ mx\n<3>mxcert: one\n<3>two\n",
		fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1): "· mx\n! mx\n✗ mx\nmxcert: one\ntwo\n",
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if err := errors.Join(stderr.Truncate(0), func() error { _, err := stderr.Seek(0, 0); return err }()); err != nil {
			t.Fatal(err)
		}
		a := &app{stderr: &console{out: stderr}, progress: "plain"}
		n := a.narrate()
		for _, stage := range []string{"order", "warning", "failed"} {
			n.line("mx", stage, "text")
		}
		a.complain(errors.New("one\ntwo"))
		text, err := os.ReadFile(stderr.Name())
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " mx  ")
			if strings.ContainsAny(line, "·!✗") {
				line += " mx"
			}
			got.WriteString(line + "\n")
		}
		if got.String() != want {
			t.Errorf("JOURNAL_STREAM=%s: %q, want %q", stream, got.String(), want)
		}
	}
}

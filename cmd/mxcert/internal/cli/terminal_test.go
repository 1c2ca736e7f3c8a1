package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// pty opens a pseudo-terminal: the side of the test, and that of a program.
func (h *host) pty() (control, tty *os.File) {
	h.t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	h.check(err)
	h.check(unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	h.check(err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	h.check(err)
	return control, tty
}

// terminal runs a command whose standard error is a terminal, and gives what is seen there.
func (h *host) terminal(args ...string) string {
	h.t.Helper()
	control, tty := h.pty()
	defer control.Close()
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(control) // ends with EIO when the other side is closed
		seen <- string(text)
	}()
	Run(context.Background(), testRelease, append([]string{"-c", h.config}, args...), io.Discard, tty)
	h.check(tty.Close())
	return <-seen
}

// results runs a command whose standard output is a terminal, and gives what is seen there.
func (h *host) results(args ...string) string {
	h.t.Helper()
	control, tty := h.pty()
	defer control.Close()
	h.check(unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}))
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(control) // ends with EIO when the other side is closed
		seen <- string(text)
	}()
	Run(context.Background(), testRelease, append([]string{"-c", h.config}, args...), tty, io.Discard)
	h.check(tty.Close())
	return strings.ReplaceAll(<-seen, "\r\n", "\n")
}

// States have colours on a terminal, and results its width.
func TestResultsOnATerminal(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, variable := range []string{"NO_COLOR", "TERM"} {
		t.Setenv(variable, "")
	}
	if seen := h.results("status"); !strings.Contains(seen, "mx: \x1b[33mwaiting\x1b[0m\n") || !strings.Contains(seen, "\x1b[33m  warning      \x1b[0mno certificate yet") {
		t.Errorf("%q", seen)
	}
	h.report(report.CodeOK, "renew")
	seen := h.results("status")
	if !strings.Contains(seen, "mx: \x1b[32mserved\x1b[0m\n") {
		t.Errorf("%q", seen)
	}
	for line := range strings.Lines(h.results("doctor", "--no-color")) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 60 && len(strings.Fields(line)) > 5 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if seen := h.results("status", "--no-color"); strings.Contains(seen, "\x1b") {
		t.Errorf("--no-color: %q", seen)
	}
	t.Setenv("NO_COLOR", "1")
	if seen := h.results("status"); strings.Contains(seen, "\x1b") {
		t.Errorf("NO_COLOR: %q", seen)
	}
}

// Colours and the animated line are for terminals, and for those who want them.
func TestTerminal(t *testing.T) {
	const colour, rewrite = "\x1b[3", "\r\x1b[K"
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, variable := range []string{"NO_COLOR", "TERM"} {
		t.Setenv(variable, "")
	}
	h.hook("pre.d/slow", "sleep 0.3") // time for the animation
	for _, tt := range []struct {
		what              string
		env               string
		args              []string
		coloured, animate bool
	}{
		{"a terminal", "", nil, true, true},
		{"--progress plain", "", []string{"--progress", "plain"}, true, false},
		{"--no-color", "", []string{"--no-color"}, false, true},
		{"NO_COLOR", "NO_COLOR=1", nil, false, true},
		{"a dumb terminal", "TERM=dumb", nil, false, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			seen := h.terminal(append([]string{"renew", "--now"}, tt.args...)...)
			if strings.Contains(seen, colour) != tt.coloured || strings.Contains(seen, rewrite) != tt.animate || strings.Contains(seen, "⠙") != tt.animate {
				t.Errorf("coloured %v, animated %v:\n%q", strings.Contains(seen, colour), strings.Contains(seen, rewrite), seen)
			}
			if !strings.Contains(seen, "done") {
				t.Errorf("the end is missing:\n%q", seen)
			}
		})
	}
	for _, silent := range []string{"-q", "--progress=none"} {
		if seen := h.terminal("renew", "--now", silent); seen != "" {
			t.Errorf("%s: %q", silent, seen)
		}
	}
	if seen := h.terminal("providers", "rfc2137"); !strings.Contains(seen, colour) {
		t.Errorf("the hint is not coloured: %q", seen)
	}
	if seen := h.terminal("providers", "rfc2137", "--no-color"); strings.Contains(seen, "\x1b") {
		t.Errorf("the hint is coloured: %q", seen)
	}
	if plain := h.run("renew"); strings.Contains(plain.stderr+plain.stdout, "\x1b") {
		t.Errorf("colours without a terminal: %q", plain.stderr)
	}
}

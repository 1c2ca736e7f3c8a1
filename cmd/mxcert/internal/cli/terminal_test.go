package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/lab"
)

// terminal runs a command whose standard error is a terminal, and gives what is seen there.
func (h *host) terminal(args ...string) string {
	h.t.Helper()
	// A pseudo-terminal: pty(7).
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	h.check(err)
	defer control.Close()
	h.check(unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	h.check(err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	h.check(err)
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(control) // ends with EIO when the other side is closed
		seen <- string(text)
	}()
	Run(context.Background(), testRelease, append([]string{"-c", h.config}, args...), io.Discard, tty)
	h.check(tty.Close())
	return <-seen
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
		{"a dumb terminal", "TERM=dumb", nil, true, false},
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

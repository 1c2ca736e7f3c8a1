package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
)

// shellTool finds a program that a test needs. In CI it must be there.
func shellTool(t *testing.T, name, file, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if _, missing := os.Stat(file); err == nil && missing == nil {
		return path
	}
	if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
		t.Fatalf("%s is missing: apt-get install %s", name, install)
	}
	t.Skipf("%s is missing: apt-get install %s", name, install)
	return ""
}

// completed types words and a tab in an interactive bash, and returns the line that bash makes of it.
func (h *host) completed(bash, typed string) string {
	h.t.Helper()
	control, tty := h.pty()
	defer control.Close()
	shell := exec.Command(bash, "--noprofile", "--norc", "-i")
	shell.Env = append(os.Environ(), "PS1=$ ", "TERM=xterm", "GORACE="+noSleep, "INPUTRC=/dev/null", "HISTFILE=")
	shell.Dir, shell.Stdin, shell.Stdout, shell.Stderr = h.Directory, tty, tty, tty
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	h.check(shell.Start())
	h.check(tty.Close())
	_, err := control.WriteString("bind 'set bell-style none'; . /usr/share/bash-completion/bash_completion; . <(mxcert completion bash)\n" +
		typed + "\t\x01echo '=<' \x05'>='\nexit\n")
	h.check(err)
	seen := make(chan string)
	go func() {
		var text bytes.Buffer
		_, _ = text.ReadFrom(control) // ends with EIO when the shell ends
		seen <- text.String()
	}()
	stop := time.AfterFunc(2*time.Minute, func() { _ = shell.Process.Kill() }) // only if it hangs
	defer stop.Stop()
	_ = shell.Wait() // with the code of the last command
	text := <-seen
	_, line, ok := strings.Cut(text, "\r=< ")
	if !ok {
		h.t.Fatalf("bash said:\n%q", text)
	}
	line, _, _ = strings.Cut(line, ">=\r")
	return line
}

// Bash itself, with its completion package, completes names.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash := shellTool(t, "bash", "/usr/share/bash-completion/bash_completion", "bash-completion")
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for typed, want := range map[string]string{
		"mxcert ren":                         "mxcert renew",
		"mxcert -c mxcert.yaml status m":     "mxcert -c mxcert.yaml status mx",
		"mxcert -c mxcert.yaml deploy mx m":  "mxcert -c mxcert.yaml deploy mx m", // not mxcert.yaml
		"mxcert -c mxc":                      "mxcert -c mxcert.yaml",
		"mxcert revoke --reason key":         "mxcert revoke --reason keyCompromise",
		"mxcert providers rfc":               "mxcert providers rfc2136",
		"mxcert --log-level d":               "mxcert --log-level debug",
		"mxcert -c /nonexistent.yaml renew ": "mxcert -c /nonexistent.yaml renew",
	} {
		if got := strings.TrimSpace(h.completed(bash, typed)); got != want {
			t.Errorf("%q becomes %q, want %q", typed, got, want)
		}
	}
}

// Fish asks the same questions.
func TestCompletionInFish(t *testing.T) {
	t.Parallel()
	fish := shellTool(t, "fish", "/", "fish")
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	cmd := exec.CommandContext(t.Context(), fish, "--no-config", "-c", "mxcert completion fish | source; complete -C 'mxcert -c mxcert.yaml status m'")
	cmd.Dir, cmd.Env = h.Directory, append(os.Environ(), "HOME="+t.TempDir(), "GORACE="+noSleep)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "mx\tmx.example.org\n" {
		t.Errorf("%v: %q", err, out)
	}
}

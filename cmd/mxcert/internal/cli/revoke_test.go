package cli

import (
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/revoke"
)

// revoke runs revoke --yes --json on mx; the exit code must be the wanted one.
func (h *host) revoke(code report.Code, args ...string) revoke.Report {
	h.t.Helper()
	got := h.run(append([]string{"revoke", "mx", "--yes", "--json"}, args...)...)
	var r revoke.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("%v printed no JSON (%v):\n%s\n%s", args, err, got.stdout, got.stderr)
	}
	if got.code != code {
		h.t.Fatalf("%v exited with %d, want %d:\n%s\n%s", args, got.code, code, got.stdout, got.stderr)
	}
	return r
}

// revokedAs tells how the CA has a certificate; -1 for not revoked.
func (h *host) revokedAs(serial string) int {
	h.t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		h.t.Fatalf("serial %q", serial)
	}
	if reason, revoked := h.CA.Revoked(number); revoked {
		return int(reason)
	}
	return -1
}

// A compromised key: revoked with its proof, never used again whatever is lost meanwhile, and replaced by the next pass.
func TestRevokeCompromised(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	second := h.report(report.CodeOK, "renew", "--now").Certificates[0].Keys[0]
	if first.SPKI != second.SPKI {
		t.Fatal("the key was not used again: the test proves nothing")
	}
	if got := h.run("revoke", "mx", "--reason", "keyCompromise"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "--yes") || h.revokedAs(second.Serial) >= 0 {
		t.Errorf("without --yes: %d\n%s", got.code, got.stderr)
	}
	r := h.revoke(report.CodeChanged, "--reason", "KEYCOMPROMISE", "--detailed-exitcode")
	if !r.Changed || r.Reason != "keyCompromise" || len(r.Certificates) != 2 || !strings.Contains(r.Next, "new key: mxcert renew mx") {
		t.Errorf("revoked: %+v", r)
	}
	for _, c := range r.Certificates { // all of the key
		if !c.Revoked || !c.Changed || c.SignedBy != "key" || c.Error != nil || h.revokedAs(c.Serial) != 1 || c.Served != (c.Serial == second.Serial) {
			t.Errorf("%+v, at the CA %d", c, h.revokedAs(c.Serial))
		}
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "still in service") {
		t.Errorf("warnings: %q", r.Warnings)
	}
	if r := h.revoke(report.CodeOK, "--reason", "1", "--detailed-exitcode"); r.Changed || !r.Certificates[0].Revoked || r.Certificates[0].Changed {
		t.Errorf("again: %+v", r)
	}
	if got := h.run("history", "mx", "--json"); strings.Count(got.stdout, `"event": "revoked"`) != 2 || !strings.Contains(got.stdout, `"message": "keyCompromise"`) {
		t.Errorf("in the history:\n%s", got.stdout)
	}
	if got := h.run("revoke", "mx", "--yes", "--key", "ec384"); got.code != report.CodeUsage || !strings.Contains(got.stderr, second.Serial) {
		t.Errorf("no such key type: %d\n%s", got.code, got.stderr)
	}
	if s, _ := h.status(); len(s.Certificates[0].Warnings) == 0 || !strings.Contains(s.Certificates[0].Warnings[0], "was revoked") {
		t.Errorf("status: %+v", s.Certificates[0])
	}
	if got := h.run("rollback", "mx"); got.code == report.CodeOK || !strings.Contains(got.stdout, "was revoked") {
		t.Errorf("rolled back to a revoked certificate: %d\n%s", got.code, got.stdout)
	}
	h.check(os.Remove(h.Path("state", "lineages", "mx", "record.json"))) // what was noted is not lost with it
	third := h.report(report.CodeOK, "renew").Certificates[0]
	if third.Keys[0].SPKI == first.SPKI || third.Stage != report.Served || !third.Changed {
		t.Errorf("replaced by %+v", third)
	}
	if fourth := h.report(report.CodeOK, "renew", "--now").Certificates[0]; fourth.Keys[0].SPKI != third.Keys[0].SPKI {
		t.Error("the new key is not used again")
	}
	if r := h.report(report.CodeOK, "renew"); r.Changed {
		t.Errorf("it does not come to rest: %+v", r)
	}
}

// Beside a daemon, which then replaces the certificate when it is told.
func TestRevokeBesideADaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	r := h.revoke(report.CodeOK, "--reason", "keyCompromise")
	replaced := h.report(report.CodeOK, "renew").Certificates[0]
	if replaced.Keys[0].Serial == r.Certificates[0].Serial || replaced.Keys[0].SPKI == r.Certificates[0].SPKI || replaced.Stage != report.Served {
		t.Errorf("replaced by %+v", replaced)
	}
	d.stop()
}

// On a terminal a person is asked, and only yes is yes.
func TestRevokeAsks(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	for answer, code := range map[string]report.Code{"\n": report.CodeFailed, "no\n": report.CodeFailed, "y\n": report.CodeOK} {
		if answer == "y\n" {
			continue // comes last
		}
		if got, said := h.answer(answer, "revoke", "mx"); got != code || h.revokedAs(serial) >= 0 || !strings.Contains(said, serial) || !strings.Contains(said, "in service now") {
			t.Errorf("answer %q: exit code %d, at the CA %d\n%s", answer, got, h.revokedAs(serial), said)
		}
	}
	if got, said := h.answer("y\n", "revoke", "mx"); got != report.CodeOK || h.revokedAs(serial) != 0 {
		t.Errorf("yes: exit code %d, at the CA %d\n%s", got, h.revokedAs(serial), said)
	}
}

// answer runs a command whose standard input is a terminal, at which somebody types.
func (h *host) answer(typed string, args ...string) (code report.Code, said string) {
	h.t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0) // pty(7)
	h.check(err)
	defer control.Close()
	h.check(unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	h.check(err)
	tty, err := os.OpenFile(filepath.Join("/dev/pts", big.NewInt(int64(number)).String()), os.O_RDWR|unix.O_NOCTTY, 0)
	h.check(err)
	defer tty.Close()
	exe, err := os.Executable()
	h.check(err)
	_, err = control.WriteString(typed)
	h.check(err)
	var output strings.Builder
	cmd := exec.CommandContext(h.t.Context(), exe, append([]string{"-c", h.config, "--progress", "plain"}, args...)...)
	cmd.Args[0], cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = "mxcert", []string{"GORACE=" + noSleep}, tty, &output, &output
	cmd.WaitDelay = 10 * time.Second
	_ = cmd.Run() // the code tells
	return report.Code(cmd.ProcessState.ExitCode()), output.String()
}

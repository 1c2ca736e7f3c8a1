package cli

import (
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/ca"
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

// The other reasons: signed by the account, and the key stays.
func TestRevokeReasons(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	for _, tt := range []struct {
		reason string
		number int
	}{{"", 0}, {"superseded", 4}, {"5", 5}} {
		args := []string{}
		if tt.reason != "" {
			args = []string{"--reason", tt.reason}
		}
		r := h.revoke(report.CodeOK, args...)
		if c := r.Certificates[0]; !c.Changed || c.SignedBy != "account" || h.revokedAs(key.Serial) != tt.number || len(r.Certificates) != 1 {
			t.Errorf("%q: %+v, at the CA %d", tt.reason, r, h.revokedAs(key.Serial))
		}
		if tt.number == 5 && !strings.Contains(r.Next, "out of the configuration") {
			t.Errorf("next: %s", r.Next)
		}
		now := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
		if now.Serial == key.Serial || now.SPKI != key.SPKI {
			t.Errorf("%q: replaced by %+v", tt.reason, now)
		}
		key = now
	}
	history := h.run("history", "mx", "--json")
	if n := strings.Count(history.stdout, `"event": "revoked"`); n != 3 || !strings.Contains(history.stdout, `"message": "superseded"`) {
		t.Errorf("%d in the history:\n%s", n, history.stdout)
	}
	for _, reason := range []string{"2", "3", "affiliationChanged", "6", "", "x"} {
		if got := h.run("revoke", "mx", "--yes", "--reason", reason); got.code != report.CodeUsage || !strings.Contains(got.stderr, "cessationOfOperation (5)") {
			t.Errorf("reason %q: %d\n%s", reason, got.code, got.stderr)
		}
	}
	if h.revokedAs(key.Serial) >= 0 {
		t.Error("it is revoked")
	}
}

// Which certificate: of one key type, an older one by its serial number however it is written, one that is not configured.
func TestRevokeChoice(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{})
	old := h.report(report.CodeOK, "renew").Certificates[0].Keys
	now := h.report(report.CodeOK, "renew", "--new-key").Certificates[0].Keys
	for _, args := range [][]string{{"--key", "ec384"}, {"--serial", "1234"}, {"--serial", old[0].Serial, "--key", "rsa2048"}} {
		if got := h.run(append([]string{"revoke", "mx", "--yes"}, args...)...); got.code != report.CodeUsage || !strings.Contains(got.stderr, now[0].Serial) {
			t.Errorf("%v: %d\n%s", args, got.code, got.stderr)
		}
	}
	serial := "0x" + strings.ToUpper(old[0].Serial)
	if r := h.revoke(report.CodeOK, "--serial", serial, "--reason", "superseded"); len(r.Certificates) != 1 || r.Certificates[0].Serial != old[0].Serial || r.Next != "" || len(r.Warnings) != 0 {
		t.Errorf("an older one: %+v", r)
	}
	if r := h.report(report.CodeOK, "renew"); r.Changed {
		t.Errorf("the current one was replaced: %+v", r)
	}
	if r := h.revoke(report.CodeOK, "--key", "rsa2048"); len(r.Certificates) != 1 || r.Certificates[0].Serial != now[1].Serial || r.Next == "" {
		t.Errorf("one key type: %+v", r)
	}
	if h.revokedAs(now[0].Serial) >= 0 || h.revokedAs(old[1].Serial) >= 0 || h.revokedAs(old[0].Serial) != 4 {
		t.Error("others are revoked")
	}
	next := h.report(report.CodeOK, "renew").Certificates[0].Keys
	if next[0].Serial != now[0].Serial || next[1].Serial == now[1].Serial {
		t.Errorf("replaced: %+v", next)
	}
	h.edit("name: mx", "name: other")
	if r := h.revoke(report.CodeOK, "--key", "ec256"); !r.Changed || !strings.Contains(r.Next, "not in the configuration") {
		t.Errorf("not configured any more: %+v", r)
	}
	if got := h.run("revoke", "nosuch", "--yes"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "it has: other") {
		t.Errorf("no such certificate: %d\n%s", got.code, got.stderr)
	}
	if got := h.run("revoke", "other", "--yes"); got.code != report.CodeFailed || !strings.Contains(got.stderr, "no certificate of other is stored") {
		t.Errorf("nothing issued: %d\n%s", got.code, got.stderr)
	}
}

// Without the account the certificate's own key signs, and is given up with that.
func TestRevokeWithoutTheAccount(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	h.accounts(report.CodeOK, "register", "--replace")
	r := h.revoke(report.CodeOK, "--reason", "superseded")
	if c := r.Certificates[0]; !c.Changed || c.SignedBy != "key" || h.revokedAs(first.Serial) != 4 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "its own key signs") {
		t.Errorf("by another account: %+v", r)
	}
	second := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	if second.SPKI == first.SPKI {
		t.Error("the key is used again")
	}
	h.check(os.RemoveAll(h.Path("state", "accounts")))
	if r := h.revoke(report.CodeOK, "--reason", "keyCompromise"); r.Certificates[0].SignedBy != "key" || h.revokedAs(second.Serial) != 1 {
		t.Errorf("without an account: %+v", r)
	}
	if n := h.CA.Count(ca.NewAccount); n != 2 {
		t.Errorf("%d requests for an account", n)
	}
}

// A CA that is away: nothing is said to be revoked, the certificate is replaced nevertheless, and the next revoke goes on
// with the one that was meant. A refusal leaves nothing behind.
func TestRevokeFaults(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	meant := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	refuse := func(status int, kind string) {
		h.CA.SetWrap(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.RevokeCert {
					next.ServeHTTP(w, r)
					return
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"type": "urn:ietf:params:acme:error:`+kind+`", "detail": "so says the test"}`)
			})
		})
	}
	refuse(http.StatusForbidden, "badRevocationReason")
	if r := h.revoke(report.CodeFailed, "--reason", "superseded"); r.Changed || r.Certificates[0].Revoked || r.Certificates[0].Error.Stage != "revoke" || r.Certificates[0].Error.Hint == "" || r.Next != "" {
		t.Errorf("refused: %+v", r)
	}
	if r := h.report(report.CodeOK, "renew"); r.Changed {
		t.Errorf("a refusal had the certificate replaced: %+v", r)
	}
	refuse(http.StatusServiceUnavailable, "serverInternal")
	if r := h.revoke(report.CodeTemporary, "--reason", "superseded"); r.Changed || r.Certificates[0].Revoked || r.Certificates[0].Error.Kind != "ca-error" {
		t.Errorf("away: %+v", r)
	}
	now := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	if now.Serial == meant.Serial {
		t.Error("it is not replaced")
	}
	h.CA.SetWrap(nil)
	if r := h.revoke(report.CodeOK, "--reason", "superseded"); !r.Changed || r.Certificates[0].Serial != meant.Serial || h.revokedAs(now.Serial) >= 0 || h.revokedAs(meant.Serial) != 4 {
		t.Errorf("gone on with: %+v", r)
	}
	if r := h.report(report.CodeOK, "renew"); r.Changed {
		t.Errorf("replaced once more: %+v", r)
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

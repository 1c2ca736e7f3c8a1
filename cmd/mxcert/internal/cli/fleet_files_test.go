package cli

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/finding"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// fault is what can become of a file of the fleet.
type fault struct {
	damage func() error
	says   string
	check  report.Code // of mxcert check
}

// identityFaults are what can become of the identity at a path; text is what it had.
func (f *fleetOf) identityFaults(path, text string) map[string]fault {
	f.t.Helper()
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	write := func(text string) func() error { return func() error { return os.WriteFile(path, []byte(text), 0o600) } }
	return map[string]fault{
		"missing":               {func() error { return nil }, "no such file", report.CodeOK}, // a configuration may be checked before its secrets are in place
		"a directory":           {func() error { return os.Mkdir(path, 0o700) }, "is not a regular file", report.CodeFault},
		"empty":                 {write(""), "it is empty", report.CodeFault},
		"garbage":               {write("garbage-with-a-secret\n"), "it is no identity of age", report.CodeFault},
		"a recipient":           {write(f.age[0].Recipient().String() + "\n"), "it is a recipient, the public half", report.CodeFault},
		"of a stranger":         {write(stranger.String() + "\n"), "is not among them", report.CodeFault},
		"everybody can read it": {func() error { return errors.Join(write(text)(), os.Chmod(path, 0o644)) }, "can be read by everybody", report.CodeFault},
	}
}

// Whatever becomes of the file of a host's identity: deploy repairs, a renewal that is not due finds all well, one that is due waits for the fleet,
// and each command says why. Those that need the store refuse.
func TestFleetIdentityLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	h := f.hosts[0]
	path := h.Path("credentials", "age")
	kept, err := os.ReadFile(path)
	h.check(err)
	serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	before := f.keys()
	for what, fault := range f.identityFaults(path, string(kept)) {
		h.check(errors.Join(os.RemoveAll(path), fault.damage()))
		h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("lost"), 0o600))
		if r := h.report(report.CodeOK, "deploy", "mx"); !r.Changed || r.Certificates[0].Endpoints[0].Serial != serial {
			t.Errorf("%s: deploy: %+v", what, r.Certificates)
		}
		h.report(report.CodeOK, "renew")
		waits := h.report(report.CodeTemporary, "renew", "--now").Certificates[0]
		if waits.Error == nil || waits.Error.Kind != pass.KindFleetAway || !strings.Contains(waits.Error.Message, fault.says) || waits.Error.Hint == "" {
			t.Errorf("%s: a renewal: %+v", what, waits.Error)
		}
		f.says(what, fault)
	}
	if now := f.keys(); len(now) != len(before) || h.placed() != 1 {
		t.Errorf("%d values in the store became %d, %d orders", len(before), len(now), h.placed())
	}
	h.check(errors.Join(os.RemoveAll(path), os.WriteFile(path, kept, 0o600)))
	h.report(report.CodeOK, "renew", "--now")
	if r := h.report(report.CodeOK, "status").Fleet; !r.Engine.Up || h.placed() != 2 {
		t.Errorf("repaired: %+v, %d orders", r, h.placed())
	}
	if got := h.run("check"); got.code != report.CodeOK || strings.Contains(got.stderr, "fleet.identity") {
		t.Errorf("repaired: check: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// says wants all commands that tell about the fleet to say what is wrong with its identity, and none to show a secret.
func (f *fleetOf) says(what string, fault fault) {
	t, h := f.t, f.hosts[0]
	t.Helper()
	if r := h.report(report.CodeOK, "status").Fleet; r == nil || r.Engine.Up || r.Engine.Since == nil || !strings.Contains(r.Engine.Reason, fault.says) || r.Engine.Hint == "" {
		t.Errorf("%s: status: %+v", what, r)
	}
	away := document[fleetReport](h, report.CodeTemporary, "fleet", "status")
	if away.OK || away.Engine.Up || away.Engine.Since == nil || !strings.Contains(away.Engine.Reason, fault.says) || away.Engine.Hint == "" || len(away.Certificates) != 1 {
		t.Errorf("%s: fleet status: %+v", what, away)
	}
	examined := document[doctorReport](h, report.CodeFault, "doctor")
	found := false
	for _, c := range examined.Checks {
		found = found || c.ID == "fleet-identity" && c.Severity == finding.Error && strings.Contains(c.Message, fault.says) && strings.Contains(c.Message, "wait since 20") && c.Hint != ""
	}
	if !found {
		t.Errorf("%s: doctor: %+v", what, examined.Checks)
	}
	checked := document[checkReport](h, fault.check, "check")
	list := checked.Problems
	if fault.check == report.CodeOK {
		list = checked.Warnings
	}
	if len(list) != 1 || !strings.HasPrefix(list[0].Path, "fleet.") || list[0].Line == 0 || !strings.Contains(list[0].Message, fault.says) || list[0].Hint == "" && fault.check != report.CodeOK {
		t.Errorf("%s: check: %+v", what, checked)
	}
	for _, args := range [][]string{{"fleet", "join", "--yes"}, {"fleet", "recipients"}, {"fleet", "recipients", "add", f.age[1].Recipient().String()}, {"fleet", "forget", "mx2", "--yes"}} {
		got := h.run(args...)
		if text := strings.Join(strings.Fields(got.stdout+got.stderr), " "); got.code != report.CodeConfig || !strings.Contains(text, fault.says) {
			t.Errorf("%s: %v: %d\n%s%s", what, args, got.code, got.stdout, got.stderr)
		}
	}
	for _, args := range [][]string{{"status"}, {"fleet", "status"}, {"fleet", "join"}, {"check"}, {"renew", "--now"}, {"doctor"}, {"config", "show"}} {
		got := h.run(args...)
		if text := got.stdout + got.stderr; strings.Contains(text, f.age[0].String()) || strings.Contains(text, "garbage-with") {
			t.Errorf("%s: a secret is in the answer of %v:\n%s", what, args, text)
		}
	}
}

// nobody is a user without rights.
const nobody = 65534

// as runs a command as another user, in a process of its own.
func (h *host) as(user uint32, args ...string) result {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "/proc/self/exe", append([]string{"-c", h.config}, args...)...)
	cmd.Args[0] = "mxcert"
	cmd.Env = []string{"GORACE=" + noSleep}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	if err := cmd.Run(); cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return result{code: report.Code(cmd.ProcessState.ExitCode()), stdout: stdout.String(), stderr: stderr.String()}
}

// One chmod: the user that renews may not read the files of the fleet any more. It repairs all the same, and mxcert check says so to root, who may
// read everything.
func TestFleetFilesOfMode000(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	f := newFleet(t, 1)
	h := f.hosts[0]
	h.check(filepath.WalkDir(h.Directory, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
	h.check(os.Chmod(filepath.Dir(h.Directory), 0o755))
	if got := h.as(nobody, "renew"); got.code != report.CodeOK {
		t.Fatalf("the user that renews: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	path := h.Path("credentials", "age")
	h.check(errors.Join(os.Chown(path, 0, 0), os.Chmod(path, 0)))
	h.check(errors.Join(os.WriteFile(h.Path("tls", "mx.crt"), []byte("lost"), 0o600), os.Chown(h.Path("tls", "mx.crt"), nobody, nobody)))
	if got := h.as(nobody, "deploy", "mx"); got.code != report.CodeOK || !strings.Contains(got.said(), "served") {
		t.Errorf("deploy: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := h.as(nobody, "renew", "--now", "--json"); got.code != report.CodeTemporary || !strings.Contains(got.stdout, "permission denied") || h.placed() != 1 {
		t.Errorf("renew --now: %d, %d orders\n%s%s", got.code, h.placed(), got.stdout, got.stderr)
	}
	for _, user := range []uint32{0, nobody} {
		if got := h.as(user, "check"); got.code != report.CodeFault || !strings.Contains(got.stderr, "fleet.identity: secret file:"+path) || !strings.Contains(got.stderr, "permission denied") {
			t.Errorf("check as %d: %d\n%s%s", user, got.code, got.stdout, got.stderr)
		}
	}
	if got := h.as(0, "doctor", "--json"); !strings.Contains(got.stdout, "when mxcert last asked etcd in its own work, that failed: fleet.identity: ") || !strings.Contains(got.stdout, "permission denied") {
		t.Errorf("doctor as root, who can read the file: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := h.as(nobody, "fleet", "join"); got.code != report.CodeConfig || !strings.Contains(got.stderr, "permission denied") {
		t.Errorf("fleet join: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	h.check(os.Chown(path, nobody, nobody))
	h.check(os.Chmod(path, 0o600))
	if got := h.as(0, "check"); got.code != report.CodeOK {
		t.Errorf("check after the repair: %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := h.as(nobody, "renew", "--now"); got.code != report.CodeOK || h.placed() != 2 {
		t.Errorf("after the repair: %d, %d orders\n%s%s", got.code, h.placed(), got.stdout, got.stderr)
	}
}

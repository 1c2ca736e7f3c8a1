package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

func TestExitCodeOfAnError(t *testing.T) {
	t.Parallel()
	_, noFile := configs.Load(filepath.Join(t.TempDir(), "mxcert.yaml"))
	for _, tt := range []struct {
		what string
		err  error
		want report.Code
	}{
		{"nothing", nil, report.CodeOK},
		{"any error", errors.New("boom"), report.CodeFailed},
		{"wrong usage", report.Usage("no such thing"), report.CodeUsage},
		{"a code of its own, wrapped", fmt.Errorf("check: %w", &report.Exit{Code: report.CodeFault}), report.CodeFault},
		{"problems of the configuration", &configs.Problems{List: []configs.Problem{{Message: "bad"}}}, report.CodeConfig},
		{"no configuration", noFile, report.CodeConfig},
		{"no permission", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, report.CodePermission},
		{"no permission, among others", errors.Join(errors.New("boom"), report.At("deploy", fs.ErrPermission)), report.CodePermission},
		{"no permission by its kind", &acme.Error{ErrKind: "permission"}, report.CodePermission},
		{"a lock", &state.Error{Op: "lock", Path: "/x", Err: state.ErrLocked}, report.CodeTemporary},
		{"cut short", report.At("order", context.Canceled), report.CodeTemporary},
		{"out of time", report.At("order", context.DeadlineExceeded), report.CodeTemporary},
		{"backoff", report.At("order", &schedule.Held{}), report.CodeTemporary},
		{"the CA refuses", &acme.Error{ErrKind: "ca-refused"}, report.CodeFailed},
	} {
		if got := report.CodeOf(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
}

// second adds a certificate to the configuration.
func (h *host) second(domain, file string) {
	h.t.Helper()
	h.edit("state: ", fmt.Sprintf("  - name: other\n    domains: [%q]\n    deploy:\n      - files: {combined: %q}\n    verify: {endpoints: []}\nstate: ", domain, file))
}

// One of two certificates fails: the other is brought in service, and the exit code tells that from a total failure.
func TestSomeCertificatesFail(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.second("lists.example.net", h.Path("tls", "other.pem"))
	r := h.report(report.CodeSome, "renew")
	if !r.Changed || r.Certificates[0].Stage != report.Served || r.Certificates[0].Error != nil {
		t.Errorf("the good one: %+v", r.Certificates[0])
	}
	if c := r.Certificates[1]; c.Name != "other" || c.Stage != report.Failed || c.Changed || c.Error == nil || c.Error.Stage != "dns" {
		t.Errorf("the bad one: %+v", c)
	}
	h.report(report.CodeSome, "renew", "--detailed-exitcode")
	h.report(report.CodeSome, "status")
	h.report(report.CodeOK, "renew", "mx")
	h.report(report.CodeFailed, "renew", "other")

	// They fail in different ways: what a person has to mend comes before what mends itself.
	h.edit("/tls/mx.crt", "/nowhere/mx.crt")
	h.report(report.CodeFailed, "renew")
	h.edit("lists.example.net", "lists.example.org")
	h.check(h.CA.Close())
	r = h.report(report.CodeNotInService, "renew")
	if c := r.Certificates[1]; c.Stage != report.Waiting || c.Error == nil || c.Error.Kind != "ca-unreachable" {
		t.Errorf("%+v", c)
	}
	h.edit("/nowhere/mx.crt", "/tls/mx.crt")
	h.report(report.CodeSome, "renew")
	h.report(report.CodeTemporary, "renew", "--now")
}

// Without the right to read the configuration, that is what is said: not that it is bad.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "mxcert.yaml")
	if err := os.WriteFile(config, []byte("acme: {}\n"), 0); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]report.Code{"check": report.CodeFault, "renew": report.CodePermission, "run": report.CodePermission, "status": report.CodePermission, "config show": report.CodePermission,
		"tlsa show": report.CodePermission, "tlsa check": report.CodePermission, "tlsa roll mx": report.CodePermission} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"-c", config}, strings.Fields(command)...)...)
		cmd.Args[0] = "mxcert"
		cmd.Env = []string{"GORACE=" + noSleep}
		if os.Geteuid() == 0 { // root may read everything
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if got := report.Code(cmd.ProcessState.ExitCode()); got != want || !strings.Contains(stderr.String(), config+": no permission to read it") || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d\n%s%s", command, got, want, &stdout, &stderr)
		}
		if line := "→ sudo mxcert -c " + config + " " + command + "\n"; strings.Contains(stderr.String(), line) != (want == report.CodePermission) {
			t.Errorf("%s: no proposal %q in\n%s", command, line, &stderr)
		}
	}
}

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
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"
)

func TestExitCodeOfAnError(t *testing.T) {
	t.Parallel()
	_, noFile := configs.Load(filepath.Join(t.TempDir(), "mxcert.yaml"))
	for _, tt := range []struct {
		what string
		err  error
		want int
	}{
		{"nothing", nil, exitOK},
		{"any error", errors.New("boom"), exitFailed},
		{"wrong usage", usage("no such thing"), exitUsage},
		{"a code of its own, wrapped", fmt.Errorf("check: %w", &exitError{code: exitFault}), exitFault},
		{"problems of the configuration", &configs.Problems{List: []configs.Problem{{Message: "bad"}}}, exitConfig},
		{"no configuration", noFile, exitConfig},
		{"no permission", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, exitPermission},
		{"no permission, among others", errors.Join(errors.New("boom"), at("deploy", fs.ErrPermission)), exitPermission},
		{"no permission by its kind", &acme.Error{ErrKind: "permission"}, exitPermission},
		{"a lock", &state.Error{Op: "lock", Path: "/x", Err: state.ErrLocked}, exitTemporary},
		{"cut short", at("order", context.Canceled), exitTemporary},
		{"out of time", at("order", context.DeadlineExceeded), exitTemporary},
		{"backoff", at("order", &heldError{}), exitTemporary},
		{"the CA refuses", &acme.Error{ErrKind: "ca-refused"}, exitFailed},
	} {
		if got := exitCodeOf(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
}

func TestExitCodeOfAReport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		codes []int
		want  int
	}{
		{nil, exitOK},
		{[]int{exitOK}, exitOK},
		{[]int{exitOK, exitOK}, exitOK},
		{[]int{exitTemporary}, exitTemporary},
		{[]int{exitNotInService, exitNotInService}, exitNotInService},
		{[]int{exitOK, exitFailed}, exitSome},
		{[]int{exitTemporary, exitOK, exitNotInService}, exitSome},
		{[]int{exitTemporary, exitPermission}, exitPermission},
		{[]int{exitNotInService, exitPermission}, exitNotInService},
		{[]int{exitFailed, exitNotInService, exitTemporary}, exitFailed},
		{[]int{exitTemporary, exitFailed}, exitFailed},
		{[]int{exitConfig}, exitConfig}, // a code without a rank of its own is a failure all the same
		{[]int{exitTemporary, exitConfig}, exitConfig},
	} {
		r := &report{}
		for _, code := range tt.codes {
			r.Certificates = append(r.Certificates, certificateReport{code: code})
		}
		if got := r.exitCode(); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.codes, got, tt.want)
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
	r := h.report(exitSome, "renew")
	if !r.Changed || r.Certificates[0].Stage != stageServed || r.Certificates[0].Error != nil {
		t.Errorf("the good one: %+v", r.Certificates[0])
	}
	if c := r.Certificates[1]; c.Name != "other" || c.Stage != stageFailed || c.Changed || c.Error == nil || c.Error.Stage != "dns" {
		t.Errorf("the bad one: %+v", c)
	}
	h.report(exitSome, "renew", "--detailed-exitcode")
	h.report(exitSome, "status")
	h.report(exitOK, "renew", "mx")
	h.report(exitFailed, "renew", "other")

	// They fail in different ways: what a person has to mend comes before what mends itself.
	h.edit("/tls/mx.crt", "/nowhere/mx.crt")
	h.report(exitFailed, "renew")
	h.edit("lists.example.net", "lists.example.org")
	h.check(h.CA.Close())
	r = h.report(exitNotInService, "renew")
	if c := r.Certificates[1]; c.Stage != stageWaiting || c.Error == nil || c.Error.Kind != "ca-unreachable" {
		t.Errorf("%+v", c)
	}
	h.edit("/nowhere/mx.crt", "/tls/mx.crt")
	h.report(exitSome, "renew")
	h.report(exitTemporary, "renew", "--now")
}

// Without the right to read the configuration, that is what is said: not that it is bad.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "mxcert.yaml")
	if err := os.WriteFile(config, []byte("acme: {}\n"), 0); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"check": exitFault, "renew": exitPermission, "run": exitPermission, "status": exitPermission, "config show": exitPermission} {
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
		if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(stderr.String(), config+": no permission to read it") || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d\n%s%s", command, got, want, &stdout, &stderr)
		}
	}
}

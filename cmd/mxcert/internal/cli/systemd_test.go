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

// The daemon as a service of systemd: what it writes to the journal, and how it takes signals.
func TestService(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit("DNSUPDATE_TSIG_SECRET: ", "DNSUPDATE_TSIG_SECRET: \""+h.Secret()+"\" # ") // worth a warning
	exe, err := os.Executable()
	h.check(err)
	cmd := exec.CommandContext(t.Context(), exe, "-c", h.config, "run")
	cmd.Args[0] = "mxcert"
	cmd.Env = []string{"GORACE=" + noSleep, "JOURNAL_STREAM=8:1"}
	stdout, journal := &bytes.Buffer{}, &transcript{}
	cmd.Stdout, cmd.Stderr = stdout, journal
	h.check(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("journal:\n%s", journal)
		}
	})
	said := func(text string, times int) {
		t.Helper()
		eventually(t, text, func() bool { return strings.Count(journal.String(), text) == times })
	}
	said("certificate in service", 1)
	const warning = "the secret stands in the configuration file"
	said(warning, 1)
	h.check(cmd.Process.Signal(syscall.SIGHUP))
	said("configuration loaded", 1)
	said(warning, 2)
	began := time.Now()
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the way out took %s", took)
	}
	if !strings.Contains(journal.String(), "<6>level=INFO msg=\"certificate in service\"") || !strings.Contains(journal.String(), "<4>level=WARN") {
		t.Errorf("the journal is not told the priorities")
	}
	if strings.Contains(journal.String(), "time=") {
		t.Error("the journal has a time of its own, and this is another")
	}
	if stdout.Len() > 0 {
		t.Errorf("on standard output: %s", stdout)
	}
	if strings.Contains(journal.String(), h.Secret()) {
		t.Error("the secret is in the journal")
	}
}

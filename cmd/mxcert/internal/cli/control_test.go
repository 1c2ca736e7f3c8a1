package cli

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// Commands ask a running daemon, show its progress and its exit codes, and leave the work to it.
func TestCommandsAskTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.edit("timeout: 30s}\nstate", "timeout: 1s}\nstate")
	d := h.daemon()
	d.awaitLog("certificate in service")
	before := h.placed()
	got := h.run("renew", "--now", "--json")
	if got.code != report.CodeOK || h.placed() != before+1 {
		t.Fatalf("%+v, %d orders", got, h.placed()-before)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || !r.Changed || r.Certificates[0].Stage != "served" {
		t.Errorf("%v: %s", err, got.stdout)
	}
	for _, stage := range []string{"order", "propagation", "issued", "verify"} {
		if !strings.Contains(got.stderr, stage) {
			t.Errorf("the progress lacks %s:\n%s", stage, got.stderr)
		}
	}
	d.awaitLog("by a command")
	if got := h.run("rollback", "mx"); got.code != report.CodeOK {
		t.Errorf("rollback: %+v", got)
	}
	if got := h.run("renew", "nothere"); got.code != report.CodeUsage && !strings.Contains(got.stderr, "no certificate") {
		t.Errorf("%+v", got)
	}
	h.SMTP.Close()
	if got := h.run("renew", "--now", "--timeout", "40s"); got.code != report.CodeNotInService {
		t.Errorf("the exit code of a failed deployment is %d:\n%s", got.code, got.stderr)
	}
	d.stop()
	if _, err := os.Stat(h.Path("state", "control.sock")); err == nil {
		t.Error("the socket is left")
	}
}

// An edit that the daemon has not read yet is read before a command's work; a bad one is refused by the command itself.
func TestCommandAfterAnEdit(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	d := h.daemon()
	d.awaitLog("certificate in service")
	h.edit("host7.example.org", "host8.example.org")
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if len(c.Names) != 2 || c.Names[1] != "host8.example.org" {
		t.Errorf("%+v", c)
	}
	h.edit("provider: rfc2136", "provider: rfc2137")
	if got := h.run("renew"); got.code != report.CodeConfig {
		t.Errorf("%+v", got)
	}
}

// Fifty commands at once, without a daemon: one order.
func TestFiftyCommands(t *testing.T) {
	t.Parallel()
	// The lag keeps the first order open until all the others have asked.
	h := newHost(t, lab.Options{DNSLag: 5 * time.Second}, configDefault)
	h.report(report.CodeOK, "renew")
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if got := h.run("renew", "--now"); got.code != report.CodeOK {
				t.Errorf("%+v", got)
			}
		})
	}
	wait.Wait()
	if n := h.placed(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

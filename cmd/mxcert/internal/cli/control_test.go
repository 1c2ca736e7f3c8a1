package cli

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// Commands ask a running daemon, show its progress and its exit codes, and leave the work to it.
func TestCommandsAskTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
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

// A command that is stopped stops its work in the daemon; other commands and the daemon's own work go on, and nothing is
// ordered twice.
func TestStoppedCommand(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	d := h.daemon()
	d.awaitLog("certificate in service")
	hold, held := make(chan struct{}), make(chan struct{}, 9)
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Finalize {
				held <- struct{}{}
				select {
				case <-hold:
				case <-r.Context().Done():
				}
			}
			refuseUnknownReplaced(next).ServeHTTP(w, r)
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		ended <- Run(ctx, testRelease, []string{"-c", h.config, "renew", "--now"}, io.Discard, io.Discard)
	}()
	<-held
	cancel()
	if code := <-ended; report.Code(code) != report.CodeTemporary {
		t.Errorf("interrupted: exit code %d", code)
	}
	close(hold)
	if c := h.report(report.CodeOK, "renew").Certificates[0]; !c.Changed || h.placed() != 2 {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
}

// Fifty commands at once, with a daemon and without: one order.
func TestFiftyCommands(t *testing.T) {
	t.Parallel()
	for _, withDaemon := range []bool{true, false} {
		// The lag keeps the first order open until all the others have asked.
		h := newHost(t, lab.Options{DNSLag: 5 * time.Second}, configDefault)
		if withDaemon {
			d := h.daemon()
			d.awaitLog("certificate in service")
		} else {
			h.report(report.CodeOK, "renew")
		}
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
			t.Errorf("%d orders, daemon %v", n, withDaemon)
		}
	}
}

// Two daemons and twenty commands begin at once, on a host without a certificate: one daemon stays, the other says why it
// does not, all commands succeed, and there is one order.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	// The lag keeps the first order open until all the others have asked.
	h := newHost(t, lab.Options{DNSLag: 3 * time.Second}, lab.ConfigOptions{})
	daemons := []*running{h.daemon(), h.daemon()}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if got := h.run("renew", "--now"); got.code != report.CodeOK {
				t.Errorf("%+v", got)
			}
		})
	}
	var err error
	stays := daemons[0]
	select {
	case err = <-daemons[0].ended:
		stays = daemons[1]
	case err = <-daemons[1].ended:
	case <-time.After(time.Minute):
		t.Fatal("both daemons stay")
	}
	if report.CodeOf(err) != report.CodeTemporary || !strings.Contains(err.Error(), "another mxcert run") {
		t.Errorf("the second daemon ends with %v", err)
	}
	wait.Wait()
	if n := h.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
	if r, _ := h.status(); r.Daemon == nil || r.Certificates[0].Stage != report.Served {
		t.Errorf("%+v", r)
	}
	if got := h.run("renew", "--now"); got.code != report.CodeOK || h.placed() != 2 {
		t.Errorf("%d orders, %+v", h.placed(), got)
	}
	stays.awaitLog("by a command") // its socket is still there
	stays.stop()
}

// What is no order is refused, and a peer that says nothing does not stay.
func TestControlSocketRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	d := h.daemon()
	d.awaitLog("certificate in service")
	for _, text := range []string{"GET / HTTP/1.1\r\n", "{}\n", strings.Repeat("x", 100<<10) + "\n", `{"names":["mx"],"fingerprint":"other"}` + "\n"} {
		conn, err := net.Dial("unix", h.Path("state", "control.sock"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		answer, _ := io.ReadAll(conn)
		if !strings.Contains(string(answer), `"refuse"`) {
			t.Errorf("%.30q is answered by %q", text, answer)
		}
		_ = conn.Close()
	}
}

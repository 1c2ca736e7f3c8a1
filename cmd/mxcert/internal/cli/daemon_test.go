package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// transcript is the log of a daemon that runs in this process.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a daemon at work in this process.
type running struct {
	t      *testing.T
	log    *transcript
	cancel context.CancelFunc
	ended  chan error
}

// daemon starts a daemon, and stops it at the test's end.
func (h *host) daemon() *running {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: h.t, log: &transcript{}, cancel: cancel, ended: make(chan error, 1)}
	a := &app{version: testRelease, stdout: &console{out: io.Discard}, stderr: &console{out: r.log}, configFile: h.config, logLevel: "debug"}
	go func() { r.ended <- a.newDaemon().Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if h.t.Failed() {
			h.t.Logf("the daemon's log:\n%s", r.log)
		}
	})
	return r
}

// stop is SIGTERM; it returns how long the way out took.
func (r *running) stop() time.Duration {
	r.t.Helper()
	start := time.Now()
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(time.Minute):
		r.t.Fatal("the daemon does not end")
	}
	return time.Since(start)
}

// awaitLog waits for a text in the log.
func (r *running) awaitLog(text string) {
	r.t.Helper()
	eventually(r.t, text+" in the log", func() bool { return strings.Contains(r.log.String(), text) })
}

// eventually waits until something has happened. The page of a slow machine is written once a minute.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this does not happen: %s", what)
		}
	}
}

// status reads what status says, whatever its exit code.
func (h *host) status() (r report.Report, got result) {
	h.t.Helper()
	got = h.run("status", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("status printed no JSON (%v):\n%s%s", err, got.stdout, got.stderr)
	}
	return r, got
}

// While the file is broken, status says so first, and then how the certificates of the configuration in force are.
func TestStatusOfABadConfiguration(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	r, got := h.status()
	if got.code != report.CodeOK || r.Daemon == nil || r.Daemon.PID != os.Getpid() || r.Daemon.ConfigError != "" || r.Daemon.ConfigLoaded.IsZero() || r.Daemon.Started.IsZero() {
		t.Errorf("exit code %d, the daemon of status is %+v", got.code, r.Daemon)
	}
	h.edit("domains:", "domians:")
	d.awaitLog("stays in force")
	r, got = h.status()
	if got.code != report.CodeConfig || r.Daemon == nil || !strings.Contains(r.Daemon.ConfigError, "domians") || r.Daemon.ConfigErrorAt == nil ||
		!strings.Contains(r.ConfigError, "domians") || len(r.Certificates) != 1 || len(r.Certificates[0].Names) != 2 {
		t.Errorf("status after a bad edit, exit code %d: %+v", got.code, r)
	}
	plain := h.run("status")
	if plain.code != report.CodeConfig || !strings.Contains(plain.stderr, "domians") || !strings.Contains(plain.said(), "the old one stays in force") || !strings.Contains(plain.stdout, "mx: ") {
		t.Errorf("status after a bad edit, exit code %d:\n%s%s", plain.code, plain.stdout, plain.stderr)
	}
	h.edit("domians:", "domains:")
	d.awaitLog("configuration loaded")
	if r, got = h.status(); got.code != report.CodeOK || r.ConfigError != "" || r.Daemon == nil || r.Daemon.ConfigError != "" || r.Daemon.ConfigErrorAt != nil {
		t.Errorf("status after the file was fixed, exit code %d: %+v", got.code, r)
	}
	d.stop()
	if r, got = h.status(); got.code != report.CodeOK || r.Certificates[0].Stage != report.Served {
		t.Errorf("status after the daemon has ended, exit code %d: %+v", got.code, r)
	}
}

// A failed certificate does not hide that the configuration is bad.
func TestStatusOfABadConfigurationAndAFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	d.stop()
	h.hook("pre.d/no", "exit 1")
	h.report(report.CodeFailed, "renew", "--now")
	h.report(report.CodeFailed, "status")
	h.edit("domains:", "domians:")
	if _, got := h.status(); got.code != report.CodeConfig {
		t.Errorf("exit code %d, want %d", got.code, report.CodeConfig)
	}
}

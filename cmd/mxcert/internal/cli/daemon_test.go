package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"

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
	a := &app{version: testRelease, stdout: io.Discard, stderr: r.log, configFile: h.config, logLevel: "debug"}
	go func() { r.ended <- a.newDaemon().Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if h.t.Failed() {
			h.t.Logf("the daemon's log:\n%s", r.log)
		}
	})
	return r
}

// stop is SIGTERM; it tells how long the way out took.
func (r *running) stop() time.Duration {
	r.t.Helper()
	began := time.Now()
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(time.Minute):
		r.t.Fatal("the daemon does not end")
	}
	return time.Since(began)
}

// awaitLog waits for a text in the log.
func (r *running) awaitLog(text string) {
	r.t.Helper()
	eventually(r.t, text+" in the log", func() bool { return strings.Contains(r.log.String(), text) })
}

// eventually waits until something has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !happened(); time.Sleep(10 * time.Millisecond) {
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

// The daemon's life: it issues, renews by itself, goes on with the old configuration after a bad edit and says so, and
// takes a good one, all without being told.
func TestDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{Validity: 6 * time.Second}}, lab.ConfigOptions{})
	d := h.daemon()
	began := time.Now()
	eventually(t, "two renewals", func() bool { return h.CA.Count(ca.Certificate) >= 3 })
	if orders, most := h.CA.Count(ca.NewOrder), 2+int(time.Since(began)/(2*time.Second)); orders > most {
		t.Errorf("%d orders in %s", orders, time.Since(began))
	}
	r, _ := h.status()
	if r.Daemon == nil || r.Daemon.PID != os.Getpid() || r.Daemon.ConfigError != "" || r.Daemon.ConfigLoaded.IsZero() || r.Daemon.Started.IsZero() {
		t.Errorf("the daemon of status is %+v", r.Daemon)
	}

	h.edit("domains:", "domians:")
	d.awaitLog("stays in force")
	if log := d.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, `domians`) {
		t.Errorf("the log does not name the fault:\n%s", log)
	}
	r, got := h.status()
	if got.code != report.CodeConfig || r.Daemon == nil || !strings.Contains(r.Daemon.ConfigError, "domians") || r.Daemon.ConfigErrorAt == nil ||
		!strings.Contains(r.ConfigError, "domians") || len(r.Certificates) != 1 || len(r.Certificates[0].Names) != 2 {
		t.Errorf("status after a bad edit, exit code %d: %+v", got.code, r)
	}
	plain := h.run("status")
	if plain.code != report.CodeConfig || !strings.Contains(plain.stderr, "domians") || !strings.Contains(plain.stdout, "the old one stays in force") || !strings.Contains(plain.stdout, "mx: ") {
		t.Errorf("status after a bad edit, exit code %d:\n%s%s", plain.code, plain.stdout, plain.stderr)
	}
	renewed := h.CA.Count(ca.Certificate)
	eventually(t, "a renewal under the old configuration", func() bool { return h.CA.Count(ca.Certificate) > renewed })

	h.edit("domians:", "domains:")
	h.edit(`, "host7.example.org"`, "")
	eventually(t, "the changed names in service", func() bool {
		r, got = h.status()
		return r.Daemon != nil && r.Daemon.ConfigError == "" && len(r.Certificates[0].Names) == 1 && r.Certificates[0].Stage == report.Served
	})
	if got.code != report.CodeOK || r.ConfigError != "" || r.Daemon.ConfigErrorAt != nil {
		t.Errorf("status after mending, exit code %d: %+v", got.code, r)
	}
	if took := d.stop(); took > 5*time.Second {
		t.Errorf("the way out took %s", took)
	}
	if log := d.log.String(); strings.Contains(log, "pass failed") || strings.Count(log, "level=ERROR") != 1 {
		t.Errorf("the log tells of failures:\n%s", log)
	}
	if r, _ := h.status(); r.Daemon != nil && r.Daemon.PID != os.Getpid() {
		t.Errorf("the daemon of status is %+v", r.Daemon)
	}
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
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

// A stop ends the daemon within a few seconds whatever it is waiting for, takes its TXT records away, is no failure to
// back off from, and wastes nothing: the next run goes on with the order that was placed.
func TestStopAtEveryStage(t *testing.T) {
	t.Parallel()
	type stage struct {
		name string
		hang func(h *host, reached func()) (mend func())
	}
	stages := []stage{
		{"propagation", func(h *host, reached func()) func() {
			h.Secondaries[0].SetFaults(nameserver.Faults{Lag: time.Hour})
			go func() {
				eventually(h.t, "a TXT record", func() bool { return len(h.World.Challenges()) > 0 })
				time.Sleep(100 * time.Millisecond)
				reached()
			}()
			return func() { h.Secondaries[0].SetFaults(nameserver.Faults{}) }
		}},
		{"handshake", func(h *host, reached func()) func() {
			h.SMTP.SetFaults(smtpd.Faults{HangAt: smtpd.EHLO})
			go func() {
				eventually(h.t, "a handshake", func() bool { return h.SMTP.Count() > 0 })
				reached()
			}()
			return func() { h.SMTP.SetFaults(smtpd.Faults{}) }
		}},
		{"hook", func(h *host, reached func()) func() {
			h.hook("pre.d/hang", `touch "$lab/hangs"; exec sleep 100`)
			go func() {
				eventually(h.t, "the hook", func() bool { _, err := os.Stat(h.Path("hangs")); return err == nil })
				reached()
			}()
			return func() { h.hook("pre.d/hang", "exit 0") }
		}},
		{"fail hook", func(h *host, reached func()) func() {
			h.hook("pre.d/fails", "exit 1")
			h.hook("fail.d/hang", `touch "$lab/hangs"; exec sleep 100`)
			go func() {
				eventually(h.t, "the hook", func() bool { _, err := os.Stat(h.Path("hangs")); return err == nil })
				reached()
			}()
			return func() { h.hook("pre.d/fails", "exit 0") }
		}},
	}
	for _, endpoint := range []ca.Endpoint{ca.Directory, ca.NewNonce, ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Order, ca.Finalize, ca.Certificate} {
		stages = append(stages, stage{string(endpoint), func(h *host, reached func()) func() {
			h.CA.SetWrap(hangAt(endpoint, reached))
			return func() { h.CA.SetWrap(nil) }
		}})
	}
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{Secondaries: 1}, lab.ConfigOptions{})
			reached := make(chan struct{})
			mend := s.hang(h, sync.OnceFunc(func() { close(reached) }))
			d := h.daemon()
			select {
			case <-reached:
			case <-time.After(30 * time.Second):
				t.Fatal("the stage is never reached")
			}
			if took := d.stop(); took > 5*time.Second {
				t.Errorf("the way out took %s", took)
			}
			if left := h.World.Challenges(); len(left) > 0 {
				t.Errorf("TXT records remain: %v", left)
			}
			record, _, err := state.New(disk.At(h.Path("state"))).Lineage("mx").Load()
			h.check(err)
			if record.Failure != nil && s.name != "fail hook" || strings.Contains(d.log.String(), "pass failed") {
				t.Errorf("the stop counts as a failure: %+v", record.Failure)
			}
			mend()
			c := h.report(report.CodeOK, "renew").Certificates[0]
			most := 1
			switch s.name {
			case string(ca.NewOrder):
				most = 2 // its URL never came
			case string(ca.Order), string(ca.Challenge):
				most = 2 // the CA may have looked for the records after the stop had removed them
			}
			if orders := h.CA.Count(ca.NewOrder); c.Stage != report.Served || orders > most {
				t.Errorf("stage %s after %d orders", c.Stage, orders)
			}
		})
	}
}

// hangAt keeps the requests of an endpoint waiting until the client has enough.
func hangAt(endpoint ca.Endpoint, reached func()) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != endpoint {
				next.ServeHTTP(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice that the client went away
			reached()
			<-r.Context().Done()
		})
	}
}

// Name servers that hang while records have to be removed: the stop takes longer, yet not too long, and the next run
// removes what remains.
func TestStopWhileNameServersHang(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	reached := make(chan struct{})
	h.CA.SetWrap(hangAt(ca.Challenge, sync.OnceFunc(func() { close(reached) })))
	d := h.daemon()
	<-reached
	h.Primary.SetFaults(nameserver.Faults{Dead: true})
	if took := d.stop(); took > 28*time.Second {
		t.Errorf("the way out took %s", took)
	}
	if left := h.World.Challenges(); len(left) == 0 {
		t.Fatal("the records are gone, though the name server hangs: the test proves nothing")
	}
	h.Primary.SetFaults(nameserver.Faults{})
	h.CA.SetWrap(nil)
	h.report(report.CodeOK, "renew")
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
	if n := h.CA.Count(ca.NewOrder); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// The stop waits for passes on an older configuration too: their records would remain otherwise.
func TestStopAfterAReload(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	reached := make(chan struct{})
	h.CA.SetWrap(hangAt(ca.Challenge, sync.OnceFunc(func() { close(reached) })))
	d := h.daemon()
	<-reached
	h.edit("timeout: 30s}", "timeout: 29s}")
	d.awaitLog("configuration loaded")
	h.Primary.SetFaults(nameserver.Faults{Delay: 300 * time.Millisecond})
	d.stop()
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
}

// A stop during an order does not begin to put older work in service, which would have to be taken back at once.
func TestStopBeginsNoDeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	reached := make(chan struct{})
	h.CA.SetWrap(hangAt(ca.NewOrder, sync.OnceFunc(func() { close(reached) })))
	h.edit(`, "host7.example.org"`, "")
	d := h.daemon()
	<-reached
	d.stop()
	if _, err := os.Stat(h.Path("tls", "mx.crt")); !os.IsNotExist(err) {
		t.Errorf("a file was written on the way out (%v)", err)
	}
	h.CA.SetWrap(nil)
	if c := h.report(report.CodeOK, "renew").Certificates[0]; c.Keys[0].Serial == serial {
		t.Errorf("%+v", c)
	}
}

// A CA that fails is asked once in a backoff, however often the daemon is restarted or reads its configuration again. A
// changed configuration may be the cure, and is tried at once.
func TestDaemonBacksOff(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				http.Error(w, "out of order", http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	d := h.daemon()
	d.awaitLog("pass failed")
	requests := h.CA.Count()
	if requests > 8 || h.CA.Count(ca.NewOrder) != 1 {
		t.Errorf("%d requests, %d of them new orders, for one failure", requests, h.CA.Count(ca.NewOrder))
	}
	h.edit("acme:", "# touched\nacme:")
	d.awaitLog("configuration loaded")
	d.stop()
	d = h.daemon()
	d.awaitLog("the order waits")
	if n := h.CA.Count(); n != requests {
		t.Errorf("%d requests in a backoff", n-requests)
	}
	if r, _ := h.status(); r.Certificates[0].Error == nil || r.Certificates[0].Error.Kind != "ca-error" {
		t.Errorf("status does not say why: %+v", r.Certificates[0])
	}
	h.edit(`, "host7.example.org"`, "")
	d.awaitLog("pass failed")
	if n := h.CA.Count(ca.NewOrder); n != 2 {
		t.Errorf("%d orders after a change of the configuration, want 2", n)
	}
	d.stop()
}

// A rate limit keeps a person's own runs away too, for as long as the CA says, unless --now is given.
func TestRateLimitIsWaitedOut(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.NewOrder {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Retry-After", "7200")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}`)
		})
	})
	if c := h.report(report.CodeTemporary, "renew").Certificates[0]; c.Error.Kind != "rate-limited" || c.Stage != report.Waiting || !strings.Contains(c.Error.Hint, "2h") {
		t.Errorf("%+v", c.Error)
	}
	requests := h.CA.Count()
	if c := h.report(report.CodeTemporary, "renew").Certificates[0]; c.Error.Kind != "backoff" || !strings.Contains(c.Error.Message, "too many certificates") || !strings.Contains(c.Error.Hint, "--now") {
		t.Errorf("%+v", c.Error)
	}
	if n := h.CA.Count(); n != requests {
		t.Errorf("%d requests in a backoff", n-requests)
	}
	h.CA.SetWrap(nil)
	h.report(report.CodeOK, "renew", "--now")
}

// Reading the configuration again leaves nothing of the old behind.
func TestReloadLeaksNothing(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	names := []string{`["mx.example.org", "host7.example.org"]`, `["mx.example.org"]`}
	reload := func(n int) {
		t.Helper()
		sleeps := strings.Count(d.log.String(), "sleeps")
		h.edit(names[n%2], names[(n+1)%2])
		eventually(t, "a certificate for other names", func() bool { return strings.Count(d.log.String(), "sleeps") > sleeps })
	}
	reload(0)
	settled := func() int {
		least := runtime.NumGoroutine()
		for range 30 { // connections take a moment to end
			time.Sleep(10 * time.Millisecond)
			least = min(least, runtime.NumGoroutine())
		}
		return least
	}
	before := settled()
	for i := range 3 {
		reload(i + 1)
	}
	if after := settled(); after > before+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after three reloads:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
	d.stop()
}

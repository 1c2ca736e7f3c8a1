package daemon

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// deployedLeaf is the certificate in the mail server's file; nil if there is none.
func (h *host) deployedLeaf() *x509.Certificate {
	text, _ := os.ReadFile(h.Path("tls", "mx.crt"))
	chain, err := bundle.ParseChain(text)
	if err != nil {
		return nil
	}
	return chain[0]
}

// The daemon's life: it issues, renews, stays with the old configuration after a bad edit and says so, and takes a good one, all
// without an order.
func TestDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{Validity: 6 * time.Second}}, lab.ConfigOptions{})
	d := h.daemon()
	start := time.Now()
	eventually(t, "two renewals", func() bool { return h.CA.Count(ca.Certificate) >= 3 })
	if orders, most := h.CA.Count(ca.NewOrder), 2+int(time.Since(start)/(2*time.Second)); orders > most {
		t.Errorf("%d orders in %s", orders, time.Since(start))
	}
	store := h.store()
	if r := Running(store); r == nil || r.PID != os.Getpid() || r.Version != testRelease || r.ConfigError != "" || r.ConfigLoaded.IsZero() || r.Started.IsZero() {
		t.Errorf("the daemon says of itself: %+v", r)
	}

	if !d.log.has("level=INFO", "msg=started", "certificates=mx event=started\n") || !d.log.has("level=INFO", "all certificates have been looked at", "next renewal: mx, ") || d.log.has("level=INFO", "msg=progress", "stage=order") {
		t.Errorf("the log does not say what is watched, or says each step:\n%s", d.log)
	}

	h.edit("domains:", "domians:")
	d.awaitLog("stays in force")
	if !d.log.has("level=ERROR", "domians") {
		t.Errorf("the log does not name the fault:\n%s", d.log)
	}
	if r := Running(store); r == nil || !strings.Contains(r.ConfigError, "domians") || r.ConfigErrorAt == nil {
		t.Errorf("after a bad edit, the daemon says of itself: %+v", r)
	}
	if config, err := configs.Load(h.Path("state", "running.yaml")); err != nil || len(config.Certificates) != 1 || len(config.Certificates[0].Domains) != 2 {
		t.Errorf("the configuration in force cannot be read: %+v, %v", config, err)
	}
	renewed := h.CA.Count(ca.Certificate)
	eventually(t, "a renewal under the old configuration", func() bool { return h.CA.Count(ca.Certificate) > renewed })

	h.edit("domians:", "domains:")
	h.edit(`, "host7.example.org"`, "")
	eventually(t, "the changed names in service", func() bool {
		leaf := h.deployedLeaf()
		return leaf != nil && len(leaf.DNSNames) == 1 && h.look().Stage == report.Served
	})
	if r := Running(store); r == nil || r.ConfigError != "" || r.ConfigErrorAt != nil {
		t.Errorf("after the file was fixed, the daemon says of itself: %+v", r)
	}
	if took := d.stop(); took > 20*time.Second { // most of what hangs would do so for longer
		t.Errorf("the way out took %s", took)
	}
	if d.log.has("pass failed") || d.log.count("level=ERROR") != 1 {
		t.Errorf("the log has failures:\n%s", d.log)
	}
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
}

// A stop ends the daemon within a few seconds whatever it is waiting for, removes its TXT records, is no failure to back off from,
// and wastes nothing: the next run resumes the order that was placed.
func TestStopAtEveryStage(t *testing.T) {
	t.Parallel()
	type stage struct {
		name string
		hang func(h *host, reached func()) (fix func())
	}
	hook := func(h *host) func() bool {
		return func() bool { _, err := os.Stat(h.Path("hangs")); return err == nil }
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
				eventually(h.t, "the hook", hook(h))
				reached()
			}()
			return func() { h.hook("pre.d/hang", "exit 0") }
		}},
		{"fail hook", func(h *host, reached func()) func() {
			h.hook("pre.d/fails", "exit 1")
			h.hook("fail.d/hang", `touch "$lab/hangs"; exec sleep 100`)
			go func() {
				eventually(h.t, "the hook", hook(h))
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
			fix := s.hang(h, sync.OnceFunc(func() { close(reached) }))
			d := h.daemon()
			select {
			case <-reached:
			case <-time.After(3 * time.Minute):
				t.Fatal("the stage is never reached")
			}
			if took := d.stop(); took > 5*time.Second {
				t.Errorf("the way out took %s", took)
			}
			if left := h.World.Challenges(); len(left) > 0 {
				t.Errorf("TXT records remain: %v", left)
			}
			if failure := h.record().Failure; failure != nil && s.name != "fail hook" || d.log.has("pass failed") {
				t.Errorf("the stop counts as a failure: %+v", failure)
			}
			fix()
			c := h.pass(report.CodeOK, pass.Options{})
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

// hangs makes the CA hang at an endpoint; the channel is closed as soon as it does.
func (h *host) hangs(endpoint ca.Endpoint) <-chan struct{} {
	reached := make(chan struct{})
	h.CA.SetWrap(hangAt(endpoint, sync.OnceFunc(func() { close(reached) })))
	return reached
}

// Name servers that hang while records have to be removed: the stop takes longer, yet not too long, and the next run removes what
// remains.
func TestStopWhileNameServersHang(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	reached := h.hangs(ca.Challenge)
	d := h.daemon()
	<-reached
	h.Primary.SetFaults(nameserver.Faults{Dead: true})
	if took := d.stop(); took > stopTime {
		t.Errorf("the way out took %s", took)
	}
	if left := h.World.Challenges(); len(left) == 0 {
		t.Fatal("the records are gone, though the name server hangs: the test proves nothing")
	}
	h.Primary.SetFaults(nameserver.Faults{})
	h.CA.SetWrap(nil)
	h.pass(report.CodeOK, pass.Options{})
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
	reached := h.hangs(ca.Challenge)
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

// A stop during an order does not start to put older work in service, which would have to be taken back at once.
func TestStopStartsNoDeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	serial := h.pass(report.CodeOK, pass.Options{}).Keys[0].Serial
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	reached := h.hangs(ca.NewOrder)
	h.edit(`, "host7.example.org"`, "")
	d := h.daemon()
	<-reached
	d.stop()
	if _, err := os.Stat(h.Path("tls", "mx.crt")); !os.IsNotExist(err) {
		t.Errorf("a file was written on the way out (%v)", err)
	}
	h.CA.SetWrap(nil)
	if c := h.pass(report.CodeOK, pass.Options{}); c.Keys[0].Serial == serial {
		t.Errorf("%+v", c)
	}
}

// A CA that fails is asked once in a backoff, however often the daemon is restarted or reads its configuration again. A changed
// configuration may be the cure, and is tried at once.
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
	d = h.again()
	d.awaitLog("the order waits")
	if n := h.CA.Count(); n != requests {
		t.Errorf("%d requests in a backoff", n-requests)
	}
	if c := h.look(); c.Error == nil || c.Error.Kind != "ca-error" {
		t.Errorf("status does not say why: %+v", c)
	}
	h.edit(`, "host7.example.org"`, "")
	d.awaitLog("pass failed")
	if n := h.CA.Count(ca.NewOrder); n != 2 {
		t.Errorf("%d orders after a change of the configuration, want 2", n)
	}
	d.stop()
}

// Reading the configuration again leaves nothing of the old behind. No other test runs meanwhile: goroutines are counted.
func TestReloadLeaksNothing(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	names := []string{`["mx.example.org", "host7.example.org"]`, `["mx.example.org"]`}
	reload := func(n int) {
		t.Helper()
		sleeps := d.log.count("sleeps")
		h.edit(names[n%2], names[(n+1)%2])
		eventually(t, "a certificate for other names", func() bool { return d.log.count("sleeps") > sleeps })
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
	after := settled()
	for end := time.Now().Add(time.Minute); after > before+1 && time.Now().Before(end); {
		after = settled()
	}
	if after > before+1 {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after three reloads:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
	d.stop()
}

// A pass that ran out of time is a failure like any other, and is logged.
func TestPassThatRunsOutOfTimeIsLogged(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.hangs(ca.NewOrder)
	d, log := h.atRest()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	w := d.current()
	result := d.pass(ctx, &order{workload: w, want: w.runner.Host.Certificates[0], log: d.log})
	if result.Error == nil || result.NextTry == nil || !log.has("pass failed") {
		t.Errorf("error %+v, log:\n%s", result.Error, log)
	}
}

package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// watcher is a daemon that only looks at the logs, in time that passes when nobody computes. The service that it asks is outside of it, and
// answers on a real socket.
type watcher struct {
	*Daemon
	t     *testing.T
	ca    *cttest.CA
	index *cttest.Index
	dir   string
	log   *transcript
	w     *workload
	task  task
	heard map[string][]finding.Finding // what listeners heard last, by certificate
	end   func()
}

// looking runs a test with a watcher that asks the index.
func looking(t *testing.T, index *cttest.Index, test func(w *watcher)) {
	t.Parallel()
	address := index.Serve(t)
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t, ca: cttest.NewCA(t, "CA"), index: index, dir: t.TempDir()}
		text := fmt.Sprintf("acme: {agree_tos: true}\ndns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: \"192.0.2.53:53\"}}\nstate: %s/state\ncertificates:\n"+
			"  - {name: mx, domains: [mx.example.org], deploy: [files: {combined: %s/mx.pem}], verify: {endpoints: []}}\nct: {watch: true, sources: [{certspotter: {url: %q}}]}\n", w.dir, w.dir, address)
		if err := os.WriteFile(filepath.Join(w.dir, "mxcert.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.end() }()
		test(w)
	})
}

// Name implements tell.Listener.
func (w *watcher) Name() string { return "test" }

// On implements tell.Listener.
func (w *watcher) On(*wanted.Host) bool { return true }

// Listen implements tell.Listener.
func (w *watcher) Listen(_ context.Context, world tell.World) time.Time {
	w.heard = map[string][]finding.Finding{}
	for topic, list := range world.Findings {
		if topic.Source == "ct" && len(list) > 0 {
			w.heard[topic.Certificate] = list
		}
	}
	return time.Time{}
}

// start starts the daemon, with a new log.
func (w *watcher) start() {
	w.t.Helper()
	config, err := configs.Load(filepath.Join(w.dir, "mxcert.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	host, err := wanted.From(config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log, w.heard = &transcript{}, nil
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.Daemon = New(Options{Log: log, Level: &slog.LevelVar{}, Release: testRelease, Tell: tell.New(log, testRelease, w)})
	w.w = newWorkload(&pass.Runner{Host: host, Store: storeAt(w.t, host.State)}, nil)
	w.Tell.InForce(host, w.w.runner.Store)
	tasks := w.transparencyTask(w.w)
	if len(tasks) != 1 {
		w.t.Fatal("the daemon does not look at the logs")
	}
	w.task = tasks[0]
	w.end = func() {
		w.w.end()
		w.Tell.Close(context.WithoutCancel(w.t.Context()))
	}
}

// restart ends the daemon and starts another one.
func (w *watcher) restart() {
	w.end()
	w.start()
}

// run lets time pass, with looks when the task asks for them.
func (w *watcher) run(d time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(d); ; {
		next := w.task.work(w.t.Context(), w.w)
		if next.IsZero() {
			w.t.Fatal("the task ends")
		}
		if next.After(end) {
			time.Sleep(time.Until(end))
			synctest.Wait()
			return
		}
		time.Sleep(time.Until(next))
	}
}

// issue makes a certificate for the own name, or others, and lets the service find it.
func (w *watcher) issue(key *ecdsa.PrivateKey, names ...string) *x509.Certificate {
	c, pre := w.ca.Issue(w.t, cttest.Template(w.t, time.Now().Add(90*24*time.Hour), names...), key.Public())
	w.index.Add(pre, c)
	return c
}

// lines returns the lines of the log with a text.
func (w *watcher) lines(text string) (list []string) {
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// store stores a certificate as that of the lineage, and the account that has ordered it.
func (w *watcher) store(key *ecdsa.PrivateKey, c *x509.Certificate) {
	w.t.Helper()
	b, err := bundle.New(append(pemBlock("CERTIFICATE", c.Raw), pemBlock("CERTIFICATE", w.ca.Certificate.Raw)...), key)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.w.runner.Store.Lineage("mx").Add(b, c.DNSNames, letsEncrypt, "", time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

// order stores an order in flight, with its key.
func (w *watcher) order(key *ecdsa.PrivateKey) {
	w.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.w.runner.Store.Lineage("mx").SaveOrder(state.Order{KeyType: bundle.EC256, URL: "https://ca.example/order/1", Key: string(pemBlock("PRIVATE KEY", der))}); err != nil {
		w.t.Fatal(err)
	}
}

// The first look learns, later ones alarm, once; a restart forgets nothing and asks nobody again.
func TestTransparencyLearnsThenAlarms(t *testing.T) {
	index := &cttest.Index{Size: 2}
	looking(t, index, func(w *watcher) {
		for range 5 {
			w.issue(cttest.Key(w.t), "mx.example.org")
		}
		account := state.Account{Directory: letsEncrypt, URL: "https://acme-v02.api.letsencrypt.org/acme/acct/7"}
		if err := w.w.runner.Store.SaveAccount(account); err != nil {
			w.t.Fatal(err)
		}
		w.run(time.Hour)
		if n := len(index.Asked()); n != 4 || len(w.heard) > 0 || w.log.String() != "" {
			w.t.Errorf("the first look: %d requests, %v\n%s", n, w.heard, w.log)
		}
		own, flying := cttest.Key(w.t), cttest.Key(w.t)
		w.store(own, w.issue(own, "mx.example.org"))
		w.order(flying)
		w.issue(flying, "mx.example.org")
		w.run(7 * time.Hour)
		if len(w.heard) > 0 || w.log.String() != "" {
			w.t.Errorf("about its own certificate and that of an order in flight: %v\n%s", w.heard, w.log)
		}
		alien := w.issue(cttest.Key(w.t), "*.example.org")
		w.run(14 * time.Hour)
		w.alarmed(alien)
		if lines := w.lines("certificate transparency"); len(lines) != 1 || !w.log.has("level=ERROR", "certificate=mx", "id=ct-unknown-certificate", bundle.SerialOf(alien), "event=logs-fault") {
			w.t.Errorf("the journal has %d lines:\n%s", len(lines), w.log)
		}
		index.Asked()
		w.restart()
		w.run(time.Minute)
		w.alarmed(alien)
		if n := index.Asked(); len(n) > 0 {
			w.t.Errorf("after a restart it asks at once: %s", n)
		}
		w.run(7 * time.Hour)
		if n := index.Asked(); len(n) == 0 || !strings.Contains(n[0], "after=") {
			w.t.Errorf("after a restart it begins anew: %s", n)
		}
		if _, err := ct.Update(w.t.Context(), w.w.runner.Store, func(m *ct.Memory) { m.Accept(m.Unknown[0].Entry) }); err != nil {
			w.t.Fatal(err)
		}
		w.run(time.Hour)
		if len(w.heard) > 0 || len(w.lines("this is over")) != 1 {
			w.t.Errorf("after it was accepted: %v\n%s", w.heard, w.log)
		}
	})
}

// alarmed checks that listeners have heard of one certificate, with what to do.
func (w *watcher) alarmed(c *x509.Certificate) {
	w.t.Helper()
	if len(w.heard) != 1 || len(w.heard["mx"]) != 1 {
		w.t.Fatalf("heard %v", w.heard)
	}
	f, serial := w.heard["mx"][0], bundle.SerialOf(c)
	if f.ID != ct.UnknownCertificate || f.Severity != finding.Error || !strings.Contains(f.Message, serial) || !strings.Contains(f.Hint, "mxcert ct check --accept "+serial) ||
		!strings.Contains(f.Hint, `CAA 0 issue "letsencrypt.org; accounturi=https://acme-v02.api.letsencrypt.org/acme/acct/7"`) {
		w.t.Errorf("%+v", f)
	}
}

// A source that fails costs one line when it begins and one when it ends; after two days people are told. It is asked seldom, and not
// before the time that it names.
func TestTransparencySourceFails(t *testing.T) {
	for name, tt := range map[string]struct {
		how  http.HandlerFunc
		want string
		most int // requests in 47 hours
	}{
		"429": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "36000")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "allows no more requests now", 5},
		"500":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusInternalServerError) }, "answered 500", 20},
		"garbage": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00\xff[[[") }, "not the documented JSON", 20},
		"changing": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, time.Now().String(), []int{500, 502, 503}[time.Now().Nanosecond()%3])
		}, "answered 50", 20},
		"hang up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached", 20},
	} {
		t.Run(name, func(t *testing.T) {
			index := &cttest.Index{}
			index.Fail(tt.how)
			looking(t, index, func(w *watcher) {
				w.run(47 * time.Hour)
				if n := len(index.Asked()); n < 3 || n > tt.most {
					w.t.Errorf("%d requests", n)
				}
				if lines := w.lines(""); len(lines) != 1 || !w.log.has("level=INFO", "gives no answer", "source=certspotter", tt.want) || len(w.heard) > 0 {
					w.t.Errorf("%v\n%s", w.heard, w.log)
				}
				w.run(14 * time.Hour)
				if lines := w.lines(""); len(lines) != 2 || !w.log.has("level=WARN", "id=ct-source", tt.want) || len(w.heard[""]) != 1 {
					w.t.Errorf("after two days: %v\n%s", w.heard, w.log)
				}
				index.Fail(nil)
				w.run(14 * time.Hour)
				if len(w.heard) > 0 || len(w.lines("answers again")) != 1 {
					w.t.Errorf("after an answer: %v\n%s", w.heard, w.log)
				}
			})
		})
	}
}

// While a source hangs, passes go on, and the daemon ends at once.
func TestTransparencySourceHangs(t *testing.T) {
	t.Parallel()
	index, asked := &cttest.Index{}, make(chan struct{}, 10)
	index.Fail(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Extra: fmt.Sprintf("ct: {watch: true, sources: [{certspotter: {url: %q}}]}\n", index.Serve(t))})
	d := h.daemon()
	<-asked
	d.awaitLog("certificate in service")
	if c := h.asked(report.CodeOK, Order{Force: true}); c.Stage != report.Served || len(c.Warnings) > 0 {
		t.Errorf("%+v", c)
	}
	if faults := slices.DeleteFunc(strings.Split(d.log.String(), "\n"), func(line string) bool { return !strings.Contains(line, "transparency") }); len(faults) > 0 {
		t.Errorf("the log: %s", faults)
	}
	d.stop() // within a minute; the request alone has longer
}

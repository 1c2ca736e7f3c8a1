package acme_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// stages are what the progress names, in their order.
func stages() []string {
	return []string{"account", "order", "dns", "propagation", "validation", "certificate"}
}

// TestCancelAtEachStage: SIGTERM ends an order soon, leaves no TXT record behind and costs no second order.
func TestCancelAtEachStage(t *testing.T) {
	t.Parallel()
	for _, stage := range stages() {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var stopped time.Time
			_, err := w.issue(ctx, func(r *acme.Request) {
				r.Progress = func(s, _ string) {
					if s == stage && stopped.IsZero() {
						stopped = time.Now()
						cancel()
					}
				}
			})
			if took := time.Since(stopped); stopped.IsZero() || took > 20*time.Second { // half a second, on a machine of its own
				t.Errorf("it took %s", took)
			}
			if stage == "certificate" { // it is there, and is not thrown away
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			w.clean(t, "after the stop")
			w.order(t, nil)
			if w.orders() != 1 || w.CA.Count(ca.NewAccount) != 1 {
				t.Errorf("%d orders, %d accounts", w.orders(), w.CA.Count(ca.NewAccount))
			}
			w.clean(t, "at the end")
		})
	}
}

// TestKilledAtEachStage: kill -9 leaves records, which the journal names, and the order, which is gone on with.
func TestKilledAtEachStage(t *testing.T) {
	t.Parallel()
	for _, stage := range stages() {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			if err := w.World.Add(`_acme-challenge.mx.example.org. 60 IN TXT "of somebody else"`); err != nil {
				t.Fatal(err)
			}
			s := w.setup
			s.DieAt = stage
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			child := exec.Command(os.Args[0], "-test.run=^$")
			child.Env = append(os.Environ(), killEnv+"="+string(text))
			out, err := child.CombinedOutput()
			status, ok := child.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("the other process was not killed: %v\n%s", err, out)
			}
			left := len(w.World.Challenges()["_acme-challenge.host7.example.org."])
			if want := stage == "dns" || stage == "propagation" || stage == "validation"; (left == 1) != want {
				t.Errorf("%d records are left", left)
			}
			if err := w.sweep(t); err != nil {
				t.Fatal(err)
			}
			if got := w.World.Challenges(); len(got) != 1 || strings.Join(got["_acme-challenge.mx.example.org."], "") != "of somebody else" {
				t.Errorf("after the sweep: %v", got)
			}
			w.order(t, nil)
			if w.orders() != 1 || w.CA.Count(ca.NewAccount) != 1 || len(w.CA.Issued()) != 1 {
				t.Errorf("%d orders, %d accounts, %d certificates", w.orders(), w.CA.Count(ca.NewAccount), len(w.CA.Issued()))
			}
		})
	}
}

// rewrite changes the answers of an endpoint while it is on.
func rewrite(endpoint ca.Endpoint, on *atomic.Bool, change func(body string) string) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != endpoint || !on.Load() {
				inner.ServeHTTP(rw, r)
				return
			}
			answer := httptest.NewRecorder()
			inner.ServeHTTP(answer, r)
			for name, values := range answer.Header() {
				if name != "Content-Length" {
					rw.Header()[name] = values
				}
			}
			rw.WriteHeader(answer.Code)
			_, _ = rw.Write([]byte(change(answer.Body.String())))
		})
	}
}

// TestResumeProcessing: the CA takes longer than a run.
func TestResumeProcessing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	var on atomic.Bool
	on.Store(true)
	slow := strings.NewReplacer(`"status": "valid"`, `"status": "processing"`, `"certificate"`, `"later"`)
	w.CA.SetWrap(rewrite(ca.Order, &on, slow.Replace))
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // enough to get there
	defer cancel()
	_, err := w.issue(ctx, nil)
	e, ok := errors.AsType[*acme.Error](err)
	if !ok || !e.Temporary() || e.ChargedToCA() || !strings.Contains(e.Error(), "still at work") || !strings.Contains(e.Hint(), "the next run resumes it") {
		t.Fatalf("got %v", err)
	}
	w.clean(t, "while the CA works")
	time.AfterFunc(300*time.Millisecond, func() { on.Store(false) })
	progress := &tape{}
	w.order(t, func(r *acme.Request) { r.Progress = progress.say })
	if w.orders() != 1 || w.CA.Count(ca.Finalize) != 1 || !progress.has("resumes the order of") {
		t.Errorf("%d orders, %d finalized, %q", w.orders(), w.CA.Count(ca.Finalize), progress.lines)
	}
}

// TestResumeValid: the process died between the download and the store.
func TestResumeValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	first := w.order(t, nil)
	updates := w.World.UpdateCount("")
	second := w.order(t, nil)
	if !second.Bundle.Same(first.Bundle) || w.orders() != 1 || w.CA.Count(ca.Finalize) != 1 || w.World.UpdateCount("") != updates {
		t.Errorf("%d orders, %d finalized", w.orders(), w.CA.Count(ca.Finalize))
	}
}

// TestLongRetryAfter: what the CA asks for is reported, not slept through with the lineage locked.
func TestLongRetryAfter(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []ca.Endpoint{ca.Order, ca.Certificate} {
		w := newWorld(t, lab.Options{})
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != endpoint {
					inner.ServeHTTP(rw, r)
					return
				}
				rw.Header().Set("Retry-After", "7200")
				if endpoint == ca.Certificate {
					rw.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				answer := httptest.NewRecorder()
				inner.ServeHTTP(answer, r)
				rw.Header()["Replay-Nonce"] = answer.Header()["Replay-Nonce"]
				_, _ = rw.Write([]byte(strings.NewReplacer(`"ready"`, `"pending"`, `"valid"`, `"pending"`).Replace(answer.Body.String())))
			})
		})
		start := time.Now()
		_, err := w.issue(t.Context(), nil)
		e, ok := errors.AsType[*acme.Error](err)
		if !ok || !e.Temporary() || e.Wait() != 2*time.Hour || time.Since(start) > time.Minute || !w.stored(t) {
			t.Errorf("%s: %v after %s, stored %v", endpoint, err, time.Since(start), w.stored(t))
		}
		w.clean(t, string(endpoint))
	}
}

// TestCertificateThatNeverComes: an order whose certificate is gone is given up after a day.
func TestCertificateThatNeverComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	gone := func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.Certificate {
				inner.ServeHTTP(rw, r)
				return
			}
			rw.Header().Set("Content-Type", "application/problem+json")
			rw.Header().Set("Retry-After", "300")
			rw.WriteHeader(http.StatusNotFound)
			_, _ = rw.Write([]byte(`{"type":"urn:ietf:params:acme:error:malformed","detail":"no such certificate"}`))
		})
	}
	w.CA.SetWrap(gone)
	for orders, age := range []time.Duration{0, time.Hour, 25 * time.Hour} {
		if order, ok, err := w.lineage(t).Order(bundle.EC256); err != nil {
			t.Fatal(err)
		} else if ok {
			order.Created = time.Now().Add(-age)
			if err := w.lineage(t).SaveOrder(order); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.issue(t.Context(), nil)
		if e, ok := errors.AsType[*acme.Error](err); !ok || e.Stage() != "download" || !e.Temporary() || !w.stored(t) {
			t.Errorf("after %s: %v, stored %v", age, err, w.stored(t))
		}
		if want := max(1, orders); w.orders() != want {
			t.Errorf("after %s: %d orders, want %d", age, w.orders(), want)
		}
	}
	w.CA.SetWrap(nil)
	if w.order(t, nil); w.orders() != 2 {
		t.Errorf("%d orders", w.orders())
	}
}

// TestSweepNamesWhatItCannotRemove: records of another provider are the operator's to remove.
func TestSweepNamesWhatItCannotRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	if _, err := state.Open(disk.Open(w.State)); err != nil {
		t.Fatal(err)
	}
	record := []state.TXT{{Domain: "mx.example.org", Name: "_acme-challenge.mx.example.org.", Zone: "example.org.", Value: "x"}}
	for _, provider := range []string{"cloudflare", "rfc2136"} {
		if _, err := w.lineage(t).Note(state.Entry{Provider: provider, Records: record, Created: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	err := w.sweep(t)
	if err == nil || !strings.Contains(err.Error(), "_acme-challenge.mx.example.org") || !strings.Contains(err.Error(), "cloudflare") || strings.Contains(err.Error(), "rfc2136") {
		t.Errorf("got %v", err)
	}
	if entries, err := w.lineage(t).Journal(); err != nil || len(entries) != 1 || entries[0].Provider != "cloudflare" {
		t.Errorf("left %v, %v", entries, err)
	}
}

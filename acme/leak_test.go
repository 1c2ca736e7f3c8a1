package acme_test

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestNothingIsLeft of orders that succeed, fail and are stopped: a daemon runs for years. It is not parallel, because
// it counts the process's goroutines and descriptors.
func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.order(t, nil)
	if err := w.lineage(t).DropOrder("ec256"); err != nil {
		t.Fatal(err)
	}
	goroutines, descriptors := settled(t, 0, 0)
	for range 3 {
		w.Names = []string{"mx.example.org", "host7.example.org", "a.example.org"}
		w.order(t, nil)
		w.Names = w.Names[:2]
		w.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused})
		if _, err := w.issue(t.Context(), nil); err == nil {
			t.Fatal("it works with refused updates")
		}
		w.Primary.SetFaults(nameserver.Faults{})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := w.issue(ctx, func(r *acme.Request) {
			r.Progress = func(stage, _ string) {
				if stage == "dns" {
					cancel()
				}
			}
		})
		if cancel(); err == nil {
			t.Fatal("it was not stopped")
		}
	}
	w.RequestTime = time.Second
	for _, respond := range []func(*exchange){
		func(x *exchange) { <-x.request.Context().Done() }, gigabyte(0), gigabyte(503), instead(429, ""), instead(307, "", "Location", "https://127.0.0.1:1/"),
		func(x *exchange) { x.good(); panic(http.ErrAbortHandler) },
	} {
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.Authz {
					inner.ServeHTTP(rw, r)
					return
				}
				respond(&exchange{rw, r, inner, &cell{}})
			})
		})
		if _, err := w.issue(t.Context(), nil); err == nil {
			t.Fatal("it works with a fault")
		}
	}
	w.CA.SetWrap(nil)
	if g, d := settled(t, goroutines, descriptors); g > goroutines || d > descriptors {
		t.Errorf("%d goroutines and %d descriptors, %d and %d before", g, d, goroutines, descriptors)
	}
}

// settled counts goroutines and descriptors when they are few enough, or stay as they are. A connection that was busy
// when its client was closed lives until it has been idle for a while.
func settled(t *testing.T, goroutines, descriptors int) (int, int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		g, d := runtime.NumGoroutine(), len(entries)
		if (g <= goroutines && d <= descriptors) || time.Now().After(deadline) || (goroutines == 0 && time.Until(deadline) < 44*time.Second) {
			return g, d
		}
	}
}

package acme_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// hang is where an order gets stuck. It calls stop when it does.
type hang struct {
	name string
	set  func(w *world, stop func())
}

// hangs are requests and questions that are not answered, and waits.
func hangs() (all []hang) {
	endpoints, _ := orderEndpoints()
	for _, endpoint := range endpoints {
		all = append(all, hang{"the CA's " + string(endpoint), func(w *world, stop func()) {
			w.CA.SetWrap(at(endpoint, func(_ http.ResponseWriter, r *http.Request) {
				w.looked(endpoint, r)
				stop()
				<-r.Context().Done()
			}))
		}})
	}
	pauses := map[ca.Endpoint]http.HandlerFunc{
		ca.Order: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(http.StatusServiceUnavailable)
		},
		ca.Certificate: func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "", http.StatusNotFound) },
	}
	for endpoint, answer := range pauses {
		all = append(all, hang{"the pause before a look at the " + string(endpoint), func(w *world, stop func()) {
			w.CA.SetWrap(at(endpoint, func(rw http.ResponseWriter, r *http.Request) {
				w.looked(endpoint, r)
				answer(rw, r)
				time.AfterFunc(50*time.Millisecond, stop)
			}))
		}})
	}
	for name, silent := range map[string]func(m *dns.Msg) bool{
		"looking for the zone": func(m *dns.Msg) bool {
			return !m.RecursionDesired && m.Question[0].Qtype == dns.TypeSOA && strings.HasPrefix(m.Question[0].Name, "_acme")
		},
		"the update": func(m *dns.Msg) bool {
			return m.Opcode == dns.OpcodeUpdate && len(m.Ns) > 0 && m.Ns[0].Header().Class == dns.ClassINET
		},
		"propagation":    func(m *dns.Msg) bool { return !m.RecursionDesired && m.Question[0].Qtype == dns.TypeTXT },
		"the validation": func(m *dns.Msg) bool { return ofCA(m.RecursionDesired, m.Question[0].Qtype) },
	} {
		all = append(all, hang{name, func(w *world, stop func()) {
			w.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if !silent(request) {
					return reply
				}
				time.AfterFunc(50*time.Millisecond, stop)
				return nil
			}})
		}})
	}
	return all
}

// looked waits, at a request about the order, until the CA has looked at the records: if they are removed before, the order is lost.
func (w *world) looked(endpoint ca.Endpoint, r *http.Request) {
	for endpoint == ca.Order && w.CA.OrderStatus(r.URL.Path) == "pending" && r.Context().Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// at answers the requests of one endpoint.
func at(endpoint ca.Endpoint, answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == endpoint {
				answer(rw, r)
				return
			}
			inner.ServeHTTP(rw, r)
		})
	}
}

// TestStopWhileItHangs: a stop ends an order soon wherever it is stuck, leaves no TXT record behind, and the next run goes
// on with it.
func TestStopWhileItHangs(t *testing.T) {
	t.Parallel()
	for _, h := range hangs() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var stopped time.Time
			var once sync.Once
			h.set(w, func() {
				once.Do(func() {
					stopped = time.Now()
					cancel()
				})
			})
			_, err := w.issue(ctx, nil)
			once.Do(func() { t.Error("it did not get there") })
			took := time.Since(stopped)
			if t.Logf("%s after the stop", took.Round(time.Millisecond)); !errors.Is(err, context.Canceled) || took > 20*time.Second { // half a second, on a machine of its own; a request would be waited for longer
				t.Errorf("%v after %s", err, took)
			}
			w.clean(t, "after the stop")
			w.CA.SetWrap(nil)
			w.Primary.SetFaults(nameserver.Faults{})
			if h.name == "the validation" { // the CA does not find the record any more: the order is lost
				return
			}
			before := w.orders()
			w.order(t, nil)
			if again := w.orders() - before; again > 0 && before > 0 && !strings.HasSuffix(h.name, "newOrder") {
				t.Error("ordered anew")
			}
			w.clean(t, "at the end")
		})
	}
}

package acme_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("host%d.example.org", i))
	}
	return names
}

// prompt is a CA that is done when it is asked, however busy this machine is.
func (w *world) prompt() { w.CA.SetWrap(w.prompted) }

func (w *world) prompted(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for ca.EndpointOf(r.URL.Path) == ca.Order && slices.Contains([]string{"pending", "processing"}, w.CA.OrderStatus(r.URL.Path)) {
			time.Sleep(time.Millisecond)
		}
		inner.ServeHTTP(rw, r)
	})
}

// register makes the account, as an earlier process did.
func (w *world) register(t *testing.T) {
	t.Helper()
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Registrar(nil, nil).Register(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

// TestRequests counts what an order costs: at the CA, in DNS messages, in changes of the zone.
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 10, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Secondaries: 1})
			w.Names = manyNames(n)
			w.prompt()
			w.register(t)
			client, store, err := w.client()
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for _, most := range []struct {
				order              string
				requests, messages int
			}{
				{"the first order of a process", 2*n + 6 + min(n, 3), 3*n + 11},
				{"the next one", 2*n + 5 + min(4, max(min(n, 8)-3, 0)), 3*n + 11}, // the directory and three nonces are there
				{"a later one", 2*n + 6, 3*n + 11},
			} {
				w.CA.ResetRequests()
				w.World.ResetLog()
				if _, err := w.issueBy(t.Context(), client, store, nil); err != nil {
					t.Fatal(err)
				}
				if got := w.CA.Count(); got > most.requests || most.requests > 2*n+9 {
					t.Errorf("%s: %d requests, want %d and never more than %d: %v", most.order, got, most.requests, 2*n+9, w.tally())
				}
				// On a busy machine the answers to some questions are late, but never to most of them.
				if got, late := w.asked(), w.repeats(); got-min(late, n/3+1) > most.messages {
					t.Errorf("%s: %d DNS messages, %d of them because an answer was late, want %d", most.order, got, late, most.messages)
				}
				var changes []string
				for _, u := range w.World.Updates() {
					changes = append(changes, fmt.Sprintf("%s +%d -%d", u.Zone, len(u.Adds), len(u.Deletes)))
				}
				if want := []string{fmt.Sprintf("%s +%d -0", lab.Zone, n), fmt.Sprintf("%s +0 -%d", lab.Zone, n)}; !slices.Equal(changes, want) {
					t.Errorf("%s: changes %q, want %q", most.order, changes, want)
				}
				if err := w.lineage(t).DropOrder(bundle.EC256); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// repeats counts the messages that repeat a question because an answer was late: over TCP, or to another server of the zone.
func (w *world) repeats() (n int) {
	type question struct {
		name string
		kind uint16
		rd   bool
	}
	seen := map[question]map[string]bool{} // by network and server
	for _, q := range w.World.Queries() {
		if ofCA(q.RD, q.Type) {
			continue
		}
		what, where := question{q.Name, q.Type, q.RD}, fmt.Sprint(q.UDP, q.Server)
		overTCP := !q.UDP && seen[what][fmt.Sprint(true, q.Server)]
		toAnother := !q.RD && q.Type == dns.TypeSOA && strings.HasPrefix(q.Name, "_acme-challenge.") && len(seen[what]) > 0
		if overTCP || toAnother {
			n++
		}
		if seen[what] == nil {
			seen[what] = map[string]bool{}
		}
		seen[what][where] = true
	}
	return n
}

// tally counts the requests by endpoint.
func (w *world) tally() map[ca.Endpoint]int {
	counts := map[ca.Endpoint]int{}
	for _, r := range w.CA.Requests() {
		counts[r.Endpoint]++
	}
	return counts
}

// TestAtMostEightAtOnce: of one order, and of several with one client.
func TestAtMostEightAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	var now, most atomic.Int32
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(10 * time.Millisecond)
			inner.ServeHTTP(rw, r)
		})
	})
	client, store, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			s := w.setup
			s.Lineage, s.Names = fmt.Sprintf("lineage%d", i), nil
			for j := range 12 {
				s.Names = append(s.Names, fmt.Sprintf("host%d-%d.example.org", i, j))
			}
			if _, err := s.issueBy(t.Context(), client, store, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := most.Load(); n > 8 || n < 4 {
		t.Errorf("%d requests at once", n)
	}
}

// forgetful is a CA that forgets nonces.
type forgetful struct {
	mu               sync.Mutex
	given, forgotten map[string]bool
}

// forget makes all nonces that were given until now too old.
func (f *forgetful) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten, f.given = f.given, map[string]bool{}
}

func (f *forgetful) give(nonce string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given[nonce] = true
}

func (f *forgetful) refuses(body []byte) bool {
	var jws, protected struct{ Protected, Nonce string }
	_ = json.Unmarshal(body, &jws)
	header, _ := base64.RawURLEncoding.DecodeString(jws.Protected)
	_ = json.Unmarshal(header, &protected)
	f.mu.Lock()
	defer f.mu.Unlock()
	return protected.Nonce != "" && f.forgotten[protected.Nonce]
}

func (f *forgetful) wrap(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if f.refuses(body) {
			fresh := httptest.NewRecorder()
			inner.ServeHTTP(fresh, httptest.NewRequest(http.MethodHead, "/nonce-plz", nil))
			rw.Header().Set("Replay-Nonce", fresh.Header().Get("Replay-Nonce"))
			refuse(rw, http.StatusBadRequest, "badNonce")
		} else {
			inner.ServeHTTP(rw, r)
		}
		f.give(rw.Header().Get("Replay-Nonce"))
	})
}

// TestOldNonces: those of an earlier order that the CA has forgotten cost one request, as fetching one does.
func TestOldNonces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.Names = manyNames(10)
	old := &forgetful{given: map[string]bool{}}
	w.CA.SetWrap(func(inner http.Handler) http.Handler { return old.wrap(w.prompted(inner)) })
	client, store, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for want := range 2 {
		w.CA.ResetRequests()
		if _, err := w.issueBy(t.Context(), client, store, nil); err != nil {
			t.Fatal(err)
		}
		refused := 0
		for _, r := range w.CA.Requests() {
			if r.Status == http.StatusBadRequest {
				refused++
			}
		}
		if refused != want || w.CA.Count(ca.NewNonce) > 5 {
			t.Errorf("%d requests were refused, want %d; %v", refused, want, w.tally())
		}
		old.forget()
		if err := w.lineage(t).DropOrder(bundle.EC256); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHalfOfTheNoncesRefused: each request is repeated with the nonce that came with the refusal, at once.
func TestHalfOfTheNoncesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{BadNonces: 50}})
	w.Names = manyNames(10)
	w.order(t, nil)
	var refused int
	shortest := time.Hour
	last := map[string]ca.Request{}
	for _, r := range w.CA.Requests() {
		if before, ok := last[r.Path]; ok && before.Status == http.StatusBadRequest {
			refused, shortest = refused+1, min(shortest, r.Time.Sub(before.Time))
		}
		last[r.Path] = r
	}
	if refused < 5 || shortest > 90*time.Millisecond { // lego itself waits for 100 ms at least
		t.Errorf("%d repeated, the fastest after %s", refused, shortest)
	}
	if w.CA.Count(ca.NewNonce) > 5 { // what is refused brings a nonce, too
		t.Errorf("%v", w.tally())
	}
}

// done makes the CA be done with a validation, as it says, when it is looked at for the n-th time.
func (w *world) done(n int32) {
	var on atomic.Bool
	on.Store(true)
	var looks atomic.Int32
	never := strings.NewReplacer(`"status": "valid"`, `"status": "pending"`, `"status": "ready"`, `"status": "pending"`).Replace
	w.CA.SetWrap(rewrite(ca.Order, &on, func(body string) string {
		if looks.Add(1) >= n {
			return body
		}
		return never(body)
	}))
}

// TestPaceIsKept: a later process looks at the order when the CA was done with earlier ones, and not before.
func TestPaceIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.done(4)
	looks := func() (first time.Duration, n int) {
		var accepted time.Time
		for _, r := range w.CA.Requests() {
			switch r.Endpoint {
			case ca.Challenge:
				accepted = r.Time
			case ca.Finalize:
				return first, n
			case ca.Order:
				if n++; n == 1 {
					first = r.Time.Sub(accepted)
				}
			}
		}
		return first, n
	}
	w.order(t, nil)
	_, before := looks()
	if err := w.lineage(t).DropOrder(bundle.EC256); err != nil {
		t.Fatal(err)
	}
	usage, err := state.New(disk.At(w.State)).Usage(w.CA.DirectoryURL())
	if err != nil || usage.Validation.Enough < 600*time.Millisecond || usage.Validation.Early >= usage.Validation.Enough {
		t.Errorf("stored %+v, %v", usage.Validation, err)
	}
	w.CA.ResetRequests()
	w.CA.SetWrap(nil) // the CA is done before that
	w.order(t, nil)
	if first, n := looks(); n >= before || first < usage.Validation.First() {
		t.Errorf("%d looks, before %d; the first after %s, want %s", n, before, first, usage.Validation.First())
	}
}

// TestLooks: the first is early, the others are a quarter of a second apart at least, and more and more.
func TestLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.done(6)
	w.order(t, nil)
	var times []time.Time
	for _, r := range w.CA.Requests() {
		if r.Endpoint == ca.Order && len(times) < 6 {
			times = append(times, r.Time)
		}
	}
	least := []time.Duration{250 * time.Millisecond, 375 * time.Millisecond, 562 * time.Millisecond, 843 * time.Millisecond, 1265 * time.Millisecond}
	for i, want := range least {
		if pause := times[i+1].Sub(times[i]); pause < want {
			t.Errorf("look %d came %s after the one before, want %s", i+2, pause, want)
		}
	}
}

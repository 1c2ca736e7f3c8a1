package acme_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestTwoKeys: the order for the second key rides on the authorizations of the first: no record is made for it, nothing is
// proven again.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{ReuseAuthz: 100}})
	client, store, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ec, err := w.issueBy(t.Context(), client, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.CA.ResetRequests()
	w.World.ResetLog()
	rsa, err := w.issueBy(t.Context(), client, store, func(r *acme.Request) { r.KeyType = bundle.RSA2048 })
	if err != nil {
		t.Fatal(err)
	}
	if ec.Bundle.KeyType() != bundle.EC256 || rsa.Bundle.KeyType() != bundle.RSA2048 {
		t.Errorf("keys %s and %s", ec.Bundle.KeyType(), rsa.Bundle.KeyType())
	}
	if n := w.asked(); n != 0 || w.CA.Count(ca.Authz, ca.Challenge) != 0 || w.CA.Count(ca.NewOrder) != 1 {
		t.Errorf("%d DNS messages, %v", n, w.tally())
	}
}

// TestValidAuthorizations are skipped: only the name that is new is proven.
func TestValidAuthorizations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{ReuseAuthz: 100}})
	w.order(t, nil)
	w.Names = append(w.Names, "new.example.org")
	w.World.ResetLog()
	w.order(t, nil)
	updates := w.World.Updates()
	if len(updates) != 2 || len(updates[0].Adds) != 1 || !strings.HasPrefix(updates[0].Adds[0], "_acme-challenge.new.example.org.") {
		t.Errorf("updates %+v", updates)
	}
}

func TestKeyTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{ReuseAuthz: 100}})
	for _, kind := range []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096} {
		first := w.order(t, func(r *acme.Request) { r.KeyType = kind })
		if first.Bundle.KeyType() != kind {
			t.Errorf("%s: got %s", kind, first.Bundle.KeyType())
		}
		if err := w.lineage(t).DropOrder(kind); err != nil {
			t.Fatal(err)
		}
		again := w.order(t, func(r *acme.Request) { r.KeyType, r.Key = kind, first.Bundle.Key() })
		if again.Bundle.SPKI() != first.Bundle.SPKI() || again.Bundle.Serial() == first.Bundle.Serial() {
			t.Errorf("%s: the key is not the one that was given, or the certificate is the old one", kind)
		}
	}
}

// TestUnknownChallenges are passed over, whatever is in them.
func TestUnknownChallenges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	var on atomic.Bool
	on.Store(true)
	unknown := `"challenges": [{"type": "dns-persist-02", "url": "https://127.0.0.1:1/x", "status": "pending", "issuer-domain-names": ["ca.example"], "nested": {"a": [1, 2]}},
		{"type": "mail-reply-00", "from": null}, {}, `
	w.CA.SetWrap(rewrite(ca.Authz, &on, func(body string) string { return strings.Replace(body, `"challenges": [`, unknown, 1) }))
	w.order(t, nil)
	w.CA.SetWrap(rewrite(ca.Authz, &on, func(body string) string { return strings.ReplaceAll(body, `"dns-01"`, `"dns-99"`) }))
	w.Names = []string{"other.example.org"}
	_, err := w.issue(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "no dns-01 challenge for other.example.org") {
		t.Errorf("without dns-01: %v", err)
	}
	w.clean(t, "without dns-01")
}

// TestChallengeTakenUpAlready: a challenge that the CA refuses because an earlier request got through is no failure; one
// that it refuses otherwise is.
func TestChallengeTakenUpAlready(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{true, false} {
		w := newWorld(t, lab.Options{})
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.Challenge {
					inner.ServeHTTP(rw, r)
					return
				}
				if taken {
					inner.ServeHTTP(httptest.NewRecorder(), r)
				}
				rw.Header().Set("Content-Type", "application/problem+json")
				rw.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprint(rw, `{"type":"urn:ietf:params:acme:error:malformed","detail":"the challenge is not pending","status":400}`)
			})
		})
		if _, err := w.issue(t.Context(), nil); (err == nil) != taken {
			t.Errorf("taken up %v: %v", taken, err)
		}
		w.clean(t, "a refused challenge")
	}
}

// TestRetryAfterIsLeast: the CA is not looked at before it wants to be.
func TestRetryAfterIsLeast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch ca.EndpointOf(r.URL.Path) {
			case ca.Challenge:
				rw.Header().Set("Retry-After", "2")
			case ca.Finalize:
				rw.Header().Set("Retry-After", "1")
			}
			inner.ServeHTTP(rw, r)
		})
	})
	w.order(t, nil)
	var before ca.Request
	for _, r := range w.CA.Requests() {
		pause := r.Time.Sub(before.Time)
		if r.Endpoint == ca.Order && (before.Endpoint == ca.Challenge && pause < 2*time.Second || before.Endpoint == ca.Finalize && pause < time.Second) {
			t.Errorf("%s after %s", pause, before.Endpoint)
		}
		before = r
	}
}

// TestFreshCertificateNotFound: the front end of the CA lags behind what made the certificate.
func TestFreshCertificateNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	var asked atomic.Int32
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Certificate && asked.Add(1) < 3 {
				http.Error(rw, "not found", http.StatusNotFound)
				return
			}
			inner.ServeHTTP(rw, r)
		})
	})
	w.order(t, nil)
	if w.orders() != 1 || w.CA.Count(ca.Finalize) != 1 || asked.Load() != 3 {
		t.Errorf("%v", w.tally())
	}
}

// TestSequenceOfAnOrder: what is stored and journaled before what.
func TestSequenceOfAnOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	var mu sync.Mutex
	seen := map[ca.Endpoint]string{}
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			endpoint := ca.EndpointOf(r.URL.Path)
			mu.Lock()
			if slices.Contains([]ca.Endpoint{ca.NewOrder, ca.Authz, ca.Challenge}, endpoint) && seen[endpoint] == "" {
				order, _, err := w.lineage(t).Order(bundle.EC256)
				entries, journalErr := w.lineage(t).Journal()
				seen[endpoint] = fmt.Sprint(order.Key != "", order.URL != "", len(entries), len(w.World.Challenges()), err, journalErr)
			}
			mu.Unlock()
			inner.ServeHTTP(rw, r)
		})
	})
	w.Names = []string{"mx.example.org"} // so that requests come one after another
	w.order(t, nil)
	for endpoint, want := range map[ca.Endpoint]string{ // key, URL, journal, records
		ca.NewOrder: "true false 0 0 <nil> <nil>", ca.Authz: "true true 0 0 <nil> <nil>", ca.Challenge: "true true 1 1 <nil> <nil>",
	} {
		if seen[endpoint] != want {
			t.Errorf("at %s: %s, want %s", endpoint, seen[endpoint], want)
		}
	}
}

package acme_test

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestIssue counts too: what is asked of the CA and of the name servers does not grow unnoticed.
func TestIssue(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{"mx.example.org"}, {"mx.example.org", "host7.example.org"}, {"*.example.org", "example.org"}, {"mx.example.org", "mx.example.com", "*.mx.example.com"}, manyNames(10), manyNames(100),
	} {
		t.Run(fmt.Sprint(len(names), names[0]), func(t *testing.T) {
			w := newWorld(t, lab.Options{Secondaries: 1})
			w.Names = names
			progress, start := &tape{}, time.Now()
			issued := w.order(t, func(r *acme.Request) { r.Progress = progress.say })
			got, want := issued.Bundle.Leaf().DNSNames, slices.Sorted(slices.Values(names))
			if slices.Sort(got); !slices.Equal(got, want) || issued.Bundle.Leaf().Subject.CommonName != "" || len(issued.Warnings) != 0 || len(issued.Bundle.Chain()) != 2 {
				t.Errorf("certificate for %q, warnings %q, %d in the chain", got, issued.Warnings, len(issued.Bundle.Chain()))
			}
			n := len(names)
			// Beside two a name: directory, account, order, finalize, certificate. How often the order is looked at depends on
			// how long the CA takes.
			nonces, polls := w.CA.Count(ca.NewNonce), w.CA.Count(ca.Order)
			if others := w.CA.Count() - nonces - polls; others != 2*n+5 || nonces != min(n, 5) || polls > 2+int(time.Since(start)/(200*time.Millisecond)) {
				t.Errorf("%d requests, %d nonces and %d looks at the order for %d names", others, nonces, polls, n)
			}
			zones := map[string]bool{}
			for _, name := range names {
				zones[name[strings.Index(name, "example."):]] = true
			}
			for zone := range zones {
				if updates := w.World.UpdateCount(zone); updates != 2 {
					t.Errorf("%d updates of %s", updates, zone)
				}
			}
			w.clean(t, "after success")
			if order, ok, err := w.lineage(t).Order(bundle.EC256); err != nil || !ok || order.URL != issued.Order {
				t.Errorf("the order is to be kept until the caller has stored the bundle: %+v, %v", order, err)
			}
			for _, line := range []string{"account: registered at", fmt.Sprintf("order: %d name", n), "dns: ", "propagation: ns1.example.org", "propagation: ns2.example.org", "validation: ", "certificate: downloaded"} {
				if !progress.has(line) {
					t.Errorf("progress lacks %q: %q", line, progress.lines)
				}
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	first := w.order(t, func(r *acme.Request) { r.KeyType = bundle.RSA2048 })
	if first.Bundle.KeyType() != bundle.RSA2048 {
		t.Errorf("got %s", first.Bundle.KeyType())
	}
	if err := w.lineage(t).DropOrder(bundle.RSA2048); err != nil { // as a caller does that has stored it
		t.Fatal(err)
	}
	again := w.order(t, func(r *acme.Request) { r.KeyType, r.Key = bundle.RSA2048, first.Bundle.Key() })
	if again.Bundle.SPKI() != first.Bundle.SPKI() || again.Bundle.Serial() == first.Bundle.Serial() {
		t.Errorf("the key is not the one that was given, or the certificate is the old one")
	}
	if fresh := w.order(t, nil); fresh.Bundle.KeyType() != bundle.EC256 || fresh.Bundle.SPKI() == first.Bundle.SPKI() {
		t.Error("no fresh key")
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{Profiles: map[string]time.Duration{"shortlived": 160 * time.Hour}}})
	leaf := w.order(t, func(r *acme.Request) { r.Profile = "shortlived" }).Bundle.Leaf()
	if life := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour); life != 160*time.Hour {
		t.Errorf("it lives %s", life)
	}
	_, err := w.issue(t.Context(), func(r *acme.Request) { r.Profile = "none" })
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "ca-refused" || !strings.Contains(e.Hint(), "acme.profile") || e.Temporary() {
		t.Errorf("an unknown profile: %v", err)
	}
	w.clean(t, "after a refused profile")
}

func TestRejectedNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{Blocked: []string{"example.com"}}})
	w.Names = []string{"mx.example.org", "mx.example.com"}
	_, err := w.issue(t.Context(), nil)
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "ca-refused" || e.Stage() != "order" || !strings.Contains(e.Hint(), "domains") || e.Temporary() || w.stored(t) {
		t.Errorf("got %v", err)
	}
}

func TestAliasedChallenges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	if err := w.World.AddZone("acme.example.net", "@ NS ns1.example.org."); err != nil {
		t.Fatal(err)
	}
	if err := w.World.Add("_acme-challenge.mx.example.org. 60 IN CNAME mx.acme.example.net."); err != nil {
		t.Fatal(err)
	}
	w.order(t, nil)
	if w.World.UpdateCount("acme.example.net") != 2 || w.World.UpdateCount("example.org") != 2 || len(w.World.TXTHistory("mx.acme.example.net")) != 1 {
		t.Errorf("updates: %+v", w.World.Updates())
	}
	w.clean(t, "after success")
}

// TestTwoLineagesAtOnce share the client and register one account.
func TestTwoLineagesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	client, store, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			solver, resolver, err := w.solver()
			if err != nil {
				t.Error(err)
				return
			}
			names := []string{fmt.Sprintf("h%d.example.org", i)}
			if _, err := client.Issue(t.Context(), acme.Request{Claim: acme.Claim{Names: names, KeyType: bundle.EC256}, Lineage: store.Lineage(names[0]),
				Accounts: acme.Only("rfc2136", solver), Resolver: resolver, Require: resolve.All, Patience: 10 * time.Second}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := w.CA.Count(ca.NewAccount); n != 1 {
		t.Errorf("%d accounts", n)
	}
	w.clean(t, "after success")
}

// TestWrongTXT: what the CA sees is not what was written, as behind a broken secondary.
func TestWrongTXT(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Opcode == dns.OpcodeQuery && request.RecursionDesired { // as the CA asks; propagation is looked at without RD
			for _, rr := range reply.Answer {
				if txt, ok := rr.(*dns.TXT); ok {
					txt.Txt = []string{"wrong"}
				}
			}
		}
		return reply
	}})
	_, err := w.issue(t.Context(), nil)
	e, ok := errors.AsType[*acme.Error](err)
	if !ok || e.Stage() != "challenge" || e.Kind() != "challenge" || !e.ChargedToCA() || e.Temporary() || !strings.Contains(e.Error(), "example.org") || !strings.Contains(e.Hint(), "_acme-challenge.") {
		t.Fatalf("got %v", err)
	}
	w.clean(t, "after a failed validation")
	if w.stored(t) {
		t.Error("an order that failed is kept")
	}
	w.Primary.SetFaults(nameserver.Faults{})
	w.order(t, nil)
	if w.orders() != 2 {
		t.Errorf("%d orders", w.orders())
	}
}

func TestDNSFailuresKeepTheOrder(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		faults nameserver.Faults
		kind   string
	}{
		"updates refused":       {nameserver.Faults{UpdateRcode: dns.RcodeRefused}, "dns-update"},
		"updates not seen":      {nameserver.Faults{Lag: time.Hour}, "propagation"},
		"the name server fails": {nameserver.Faults{Rcode: dns.RcodeServerFailure}, "dns-unreachable"},
	} {
		w := newWorld(t, lab.Options{})
		w.Primary.SetFaults(tt.faults)
		_, err := w.issue(t.Context(), func(r *acme.Request) { r.Patience = 300 * time.Millisecond })
		if e, ok := errors.AsType[interface {
			error
			Kind() string
		}](err); !ok || e.Kind() != tt.kind {
			t.Errorf("%s: %v", what, err)
		}
		if !w.stored(t) {
			t.Errorf("%s: the order is lost", what)
		}
		w.Primary.SetFaults(nameserver.Faults{})
		if err := w.sweep(t); err != nil {
			t.Error(err)
		}
		w.clean(t, what)
		w.order(t, nil)
		if w.orders() != 1 {
			t.Errorf("%s: %d orders", what, w.orders())
		}
	}
}

// TestStoredOrdersThatDoNotFit: only the order of the same request is taken up.
func TestStoredOrdersThatDoNotFit(t *testing.T) {
	t.Parallel()
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*acme.Request){
		"other names":   func(r *acme.Request) { r.Names = []string{"mx.example.org"} },
		"a given key":   func(r *acme.Request) { r.Key = key },
		"other profile": func(r *acme.Request) { r.Profile = ca.DefaultProfile },
	} {
		w := newWorld(t, lab.Options{})
		first := w.order(t, nil)
		second := w.order(t, edit)
		if w.orders() != 2 || second.Order == first.Order {
			t.Errorf("%s: %d orders", what, w.orders())
		}
		if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); what == "a given key" && (!ok || !public.Equal(second.Bundle.Key().Public())) {
			t.Errorf("%s: another key was certified", what)
		}
	}
	w := newWorld(t, lab.Options{})
	w.order(t, nil)
	order, _, err := w.lineage(t).Order(bundle.EC256)
	if err != nil {
		t.Fatal(err)
	}
	order.URL = "https://elsewhere.example/order/1" // a host that the directory does not name any more
	if err := w.lineage(t).SaveOrder(order); err != nil {
		t.Fatal(err)
	}
	if w.order(t, nil); w.orders() != 2 {
		t.Errorf("an order of another host: %d orders", w.orders())
	}
}

package dnsupdate_test

import (
	"testing"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestProbeChangesNothing: the server has said that it would do it, and has done nothing. What it may refuse is in
// TestFailures.
func TestProbeChangesNothing(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	if err := w.Add(owner + tlsa + hash(0xaa)); err != nil {
		t.Fatal(err)
	}
	before := w.Serial("example.org")
	c := newClient(t, environ(s.Address()))
	for _, records := range [][]dns.RR{{rr(t, owner+tlsa+hash(0x11)), rr(t, "new.example.org."+tlsa+hash(0x11))}, nil} {
		if err := c.Probe(t.Context(), "example.org.", records); err != nil {
			t.Error(err)
		}
	}
	if got := held(t, s); got != "aa" || w.Serial("example.org") != before {
		t.Errorf("there is %q, serial %d, before %d", got, w.Serial("example.org"), before)
	}
	if len(w.Updates()) != 2 {
		t.Fatalf("%d messages", len(w.Updates()))
	}
	for _, u := range w.Updates() {
		if u.Rcode != dns.RcodeNameError || u.Key != keyName || len(u.Adds) > 0 {
			t.Errorf("%+v", u)
		}
	}
}

// TestProbeWithoutConditions: if a server does not know conditions, nothing is changed all the same.
func TestProbeWithoutConditions(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	random := rr(t, owner+tlsa+hash(0x11))
	s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		for _, rr := range request.Ns {
			if rr.Header().Class != dns.ClassNONE || rr.(*dns.TLSA).Certificate != random.(*dns.TLSA).Certificate {
				t.Errorf("the update is %s", rr)
			}
		}
		reply.Rcode = dns.RcodeSuccess
		return reply
	}})
	if err := newClient(t, environ(s.Address())).Probe(t.Context(), "example.org.", []dns.RR{random}); err != nil {
		t.Error(err)
	}
	if len(w.Updates()) != 1 {
		t.Errorf("%d updates", len(w.Updates()))
	}
}

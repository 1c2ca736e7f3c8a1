package resolve_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	w := world(t, nil)
	follows, single := listen(t, w, "127.0.0.1:0"), listen(t, w, "127.0.0.1:0")
	single.SetFaults(nameserver.Faults{Edit: firstOnly})
	for _, tt := range []struct{ what, name, owner, zone string }{
		{"a name that does not exist", "_acme-challenge.mx.example.org", "_acme-challenge.mx.example.org.", "example.org."},
		{"a name without this type", "mx.example.org.", "mx.example.org.", "example.org."},
		{"an empty non-terminal", "b.deep.example.org", "b.deep.example.org.", "example.org."},
		{"the apex", "Example.ORG", "example.org.", "example.org."},
		{"below a zone cut", "_acme-challenge.mx.sub.example.org", "_acme-challenge.mx.sub.example.org.", "sub.example.org."},
		{"at a zone cut", "_acme-challenge.sub.example.org", "_acme-challenge.sub.example.org.", "sub.example.org."},
		{"below a zone cut two labels down", "_acme-challenge.x.sub.deep.example.org", "_acme-challenge.x.sub.deep.example.org.", "sub.deep.example.org."},
		{"an alias in the zone", "_ACME-challenge.alias.example.org", "target.example.org.", "example.org."},
		{"an alias into another zone", "_acme-challenge.far.example.org", "x.acme.example.net.", "acme.example.net."},
		{"an alias to an apex", "_acme-challenge.zone.example.org", "acme.example.net.", "acme.example.net."},
		{"an alias into a child zone", "_acme-challenge.down.example.org", "y.sub.example.org.", "sub.example.org."},
		{"aliases over three zones", "_acme-challenge.chain.example.org", "three.acme.example.net.", "acme.example.net."},
		{"a wildcard", "_acme-challenge.any.wild.example.org", "_acme-challenge.any.wild.example.org.", "example.org."},
		{"a wildcard at the apex of its zone", "_acme-challenge.wild.example.net", "_acme-challenge.wild.example.net.", "wild.example.net."},
		{"a wildcard, and an alias in its place", "_acme-challenge.real.wild.example.net", "same.acme.example.net.", "acme.example.net."},
		{"an alias under a name that a wildcard leaves alone", "_acme-challenge.host.wild.example.net", "_acme-challenge.host.wild.example.net.", "wild.example.net."},
		{"an alias to a name that only a wildcard has", "_acme-challenge.second.example.org", "other.wild.example.net.", "wild.example.net."},
		{"seven aliases", "long7.example.org", "long14.example.org.", "example.org."},
	} {
		for kind, server := range map[string]*nameserver.Server{"": follows, ", one alias an answer": single} {
			place, err := ask(server).Locate(t.Context(), tt.name)
			if err != nil || place.Name != tt.owner || place.Zone != tt.zone {
				t.Errorf("%s%s: %+v, %v", tt.what, kind, place, err)
			}
			if want := "ns1." + strings.TrimPrefix(tt.zone, "."); place.Primary != want {
				t.Errorf("%s%s: primary %q, want %q", tt.what, kind, place.Primary, want)
			}
		}
	}
}

func TestLocateRefuses(t *testing.T) {
	t.Parallel()
	w := world(t, map[string][]string{"bogus.example": nil})
	if err := w.SetTrust("bogus.example", nameserver.Bogus); err != nil {
		t.Fatal(err)
	}
	plain, single, referring := listen(t, w, "127.0.0.1:0"), listen(t, w, "127.0.0.1:0"), listen(t, w, "127.0.0.1:0")
	single.SetFaults(nameserver.Faults{Edit: firstOnly})
	referring.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		// The server of example.org itself, which does not ask others: a referral below the cut.
		if strings.HasSuffix(request.Question[0].Name, "sub.example.org.") {
			reply.Answer, reply.Authoritative = nil, false
			reply.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "sub.example.org.", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns1.example.org."}}
		}
		return reply
	}})
	for _, tt := range []struct {
		what, name string
		server     *nameserver.Server
		says       string
		temporary  bool
	}{
		{"an alias to itself", "self.example.org", plain, "self.example.org CNAME", false},
		{"a loop over zones", "loop.example.org", single, "form a loop", false},
		{"too many aliases", "long0.example.org", single, "more than 10 CNAME", false},
		{"a bogus zone", "_acme-challenge.mx.bogus.example", plain, "SERVFAIL", true},
		{"a made-up top-level domain", "_acme-challenge.mx.example.lan", plain, "is not in any zone", false},
		{"a referral", "_acme-challenge.mx.sub.example.org", referring, "refers to other name servers", false},
	} {
		place, err := ask(tt.server).Locate(t.Context(), tt.name)
		e, ok := errors.AsType[*resolve.Error](err)
		if !ok || !strings.Contains(err.Error(), tt.says) || e.Temporary() != tt.temporary || !strings.Contains(err.Error(), tt.server.Address()) {
			t.Errorf("%s: %+v, %v", tt.what, place, err)
		} else if e.Hint() == "" || e.Kind() == "" {
			t.Errorf("%s: hint %q, kind %q", tt.what, e.Hint(), e.Kind())
		}
	}
}

// TestLocateWithoutSOA: some servers leave the SOA out of empty answers. The parent is asked only then.
func TestLocateWithoutSOA(t *testing.T) {
	t.Parallel()
	s := listen(t, world(t, nil), "127.0.0.1:0")
	s.SetFaults(nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg { reply.Ns = nil; return reply }})
	place, err := ask(s).Locate(t.Context(), "_acme-challenge.mx.sub.example.org")
	if err != nil || place.Zone != "sub.example.org." || place.Name != "_acme-challenge.mx.sub.example.org." {
		t.Errorf("%+v, %v", place, err)
	}
}

// TestLostPacketsNeverGiveTheParentZone: the TXT record would go to a zone where nobody looks for it.
func TestLostPacketsNeverGiveTheParentZone(t *testing.T) {
	t.Parallel()
	const name, zone = "_acme-challenge.mx.sub.example.org", "sub.example.org."
	for _, noTCP := range []bool{false, true} {
		t.Run(fmt.Sprint(noTCP), func(t *testing.T) {
			t.Parallel()
			s := listen(t, world(t, nil), "127.0.0.1:0")
			var seen atomic.Int32
			s.SetFaults(nameserver.Faults{NoTCP: noTCP, Edit: func(_, reply *dns.Msg) *dns.Msg {
				if seen.Add(1) == 1 {
					return nil
				}
				return reply
			}})
			place, err := ask(s).Locate(t.Context(), name)
			if !noTCP {
				if err != nil || place.Zone != zone {
					t.Errorf("one datagram lost: %+v, %v", place, err)
				}
				return
			}
			e, ok := errors.AsType[*resolve.Error](err)
			if !ok || !e.Temporary() || e.Kind() != "dns-unreachable" || !strings.Contains(err.Error(), "no answer") {
				t.Errorf("no answer at all: %+v, %v", place, err)
			}
		})
	}
}

func TestLocateOverTCP(t *testing.T) {
	t.Parallel()
	w := world(t, nil)
	s := listen(t, w, "127.0.0.1:0")
	for what, tt := range map[string]struct {
		faults nameserver.Faults
		fails  bool
		tcp    bool
	}{
		"truncated answers":               {nameserver.Faults{Truncate: true}, false, true},
		"truncated answers, no TCP":       {nameserver.Faults{Truncate: true, NoTCP: true}, true, false},
		"no TCP":                          {nameserver.Faults{NoTCP: true}, false, false},
		"SERVFAIL over both":              {nameserver.Faults{Rcode: dns.RcodeServerFailure}, true, false},
		"a server that refuses questions": {nameserver.Faults{Rcode: dns.RcodeRefused}, true, false},
	} {
		w.ResetLog()
		s.SetFaults(tt.faults)
		place, err := ask(s).Locate(t.Context(), "_acme-challenge.mx.sub.example.org")
		if (err != nil) != tt.fails || (err == nil && place.Zone != "sub.example.org.") {
			t.Errorf("%s: %+v, %v", what, place, err)
		}
		tcp := false
		for _, q := range w.Queries() {
			tcp = tcp || !q.UDP
		}
		if tcp != tt.tcp {
			t.Errorf("%s: asked over TCP: %v", what, tcp)
		}
	}
}

// TestAnswersToOtherQuestions (RFC 5452 section 9.1): whoever guesses the 16 bits of the ID does not yet decide.
func TestAnswersToOtherQuestions(t *testing.T) {
	t.Parallel()
	forged := &dns.SOA{Hdr: dns.RR_Header{Name: "org.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "evil.example.", Mbox: "x."}
	for what, edit := range map[string]func(reply *dns.Msg){
		"another name":    func(reply *dns.Msg) { reply.Question[0].Name = "evil.org." },
		"another type":    func(reply *dns.Msg) { reply.Question[0].Qtype = dns.TypeA },
		"no question":     func(reply *dns.Msg) { reply.Question = nil },
		"a question back": func(reply *dns.Msg) { reply.Response = false },
	} {
		s := listen(t, world(t, nil), "127.0.0.1:0")
		var seen atomic.Int32
		s.SetFaults(nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg {
			if seen.Add(1) == 1 {
				reply.Ns = []dns.RR{forged}
				edit(reply)
			}
			return reply
		}})
		if place, err := ask(s).Locate(t.Context(), "_acme-challenge.mx.example.org"); err != nil || place.Zone != "example.org." {
			t.Errorf("%s: %+v, %v", what, place, err)
		}
	}
}

func TestSecondResolver(t *testing.T) {
	t.Parallel()
	good := listen(t, world(t, nil), "127.0.0.1:0")
	failing := listen(t, world(t, nil), "127.0.0.1:0")
	failing.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure})
	for what, first := range map[string]string{"SERVFAIL": failing.Address(), "nobody listens": port.Address(t)} {
		if place, err := resolve.New([]string{first, good.Address()}).Locate(t.Context(), "mx.example.org"); err != nil || place.Zone != "example.org." {
			t.Errorf("%s: %+v, %v", what, place, err)
		}
	}
	// One that is dead is waited for once, not with every question.
	r := resolve.New([]string{silent(t), good.Address()})
	for i := range 3 {
		start := time.Now()
		if _, err := r.Locate(t.Context(), "mx.example.org"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); i > 0 && took > 5*time.Second { // to wait for the dead one takes six
			t.Errorf("question %d took %s", i+1, took)
		}
	}
	// A server that answers, if only SERVFAIL, stays the first: the second may not validate.
	r = ask(failing, good)
	if _, err := r.Locate(t.Context(), "mx.example.org"); err != nil {
		t.Fatal(err)
	}
	failing.SetFaults(nameserver.Faults{})
	if err := good.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Locate(t.Context(), "mx.example.org"); err != nil {
		t.Error(err)
	}
}

func TestDelegation(t *testing.T) {
	t.Parallel()
	s := listen(t, world(t, map[string][]string{
		"many.example":  {"@ NS ns1", "@ NS ns2", "@ NS lost.example.org.", "ns1 A 127.0.0.1", "ns1 A 127.0.0.7", "ns2 AAAA ::1"},
		"alias.example": {"@ NS ns", "ns CNAME mx.example.org."},
		"none.example":  {"@ NS lost.example.org."},
		"empty.example": nil,
	}), "127.0.0.1:0")
	port := s.Address()[len("127.0.0.1"):]
	for zone, want := range map[string]string{
		"many.example":  "ns1.many.example [127.0.0.1" + port + "] ns1.many.example [127.0.0.7:53] ns2.many.example [[::1]:53]",
		"alias.example": "ns.alias.example [127.0.0.1" + port + "]",
		"none.example":  "DNS: lost.example.org A/AAAA at " + s.Address() + ": the host has no address",
		"empty.example": "DNS: empty.example NS at " + s.Address() + ": the zone has no name server",
	} {
		d, err := ask(s).Delegation(t.Context(), zone)
		var got []string
		for _, server := range d.Servers {
			got = append(got, server.String())
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", zone, got, want)
		}
	}
}

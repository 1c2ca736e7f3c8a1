package resolve_test

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// requireOrSkip skips a test for want of something, or fails where everything has to run.
func requireOrSkip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// TestFaultsOfNameServers makes a record as an order does, with one fault of the DNS after another: the place is found, the
// record is made there, and is seen on all servers, or the error says which one is at fault.
func TestFaultsOfNameServers(t *testing.T) {
	t.Parallel()
	const owner = "_acme-challenge.fresh.many.example."
	for _, tt := range []struct {
		what     string
		resolver nameserver.Faults
		servers  []nameserver.Faults // of ns1, ns2, ns3
		records  []string            // more of the zone many.example
		early    bool                // the challenge's name was asked for before anything was made there
		late     []string            // records that are made after that
		place    string              // where the record has to be; "" is at the name itself
		require  resolve.Require
		patience time.Duration
		says     []string // of the error; nil: none
	}{
		{what: "none"},
		{what: "one server is dead", servers: []nameserver.Faults{{Dead: true}}, patience: 3 * time.Second, says: []string{"ns1.many.example [127.0.0.11:", "no answer"}},
		{what: "one server is dead, quorum", servers: []nameserver.Faults{{Dead: true}}, require: resolve.Quorum},
		{what: "two servers are dead, quorum", servers: []nameserver.Faults{{Dead: true}, {Dead: true}}, require: resolve.Quorum, patience: 3 * time.Second, says: []string{"ns1.many", "ns2.many"}},
		{what: "one server says SERVFAIL", servers: []nameserver.Faults{{}, {Rcode: dns.RcodeServerFailure}}, patience: 3 * time.Second, says: []string{"ns2.many.example", "SERVFAIL"}},
		{what: "one server says SERVFAIL, quorum", servers: []nameserver.Faults{{}, {Rcode: dns.RcodeServerFailure}}, require: resolve.Quorum},
		{what: "one server says REFUSED", servers: []nameserver.Faults{{}, {}, {Lame: true}}, patience: 3 * time.Second, says: []string{"ns3.many.example", "REFUSED"}},
		{what: "all servers say SERVFAIL", servers: []nameserver.Faults{{Rcode: dns.RcodeServerFailure}, {Rcode: dns.RcodeServerFailure}, {Rcode: dns.RcodeServerFailure}}, patience: 3 * time.Second, says: []string{"ns1.", "ns2.", "ns3."}},
		{what: "lagging 2 s", servers: []nameserver.Faults{{}, {Lag: 2 * time.Second}}},
		{what: "lagging 6 s", servers: []nameserver.Faults{{}, {}, {Lag: 6 * time.Second}}},
		{what: "lagging for ever", servers: []nameserver.Faults{{}, {}, {Lag: time.Hour}}, patience: 3 * time.Second, says: []string{"ns3.many.example", "does not serve _acme-challenge.fresh.many.example yet (SOA serial 1)"}},
		{what: "truncation", resolver: nameserver.Faults{Truncate: true}, servers: []nameserver.Faults{{Truncate: true}, {Truncate: true}, {Truncate: true}}},
		{what: "truncation without TCP", servers: []nameserver.Faults{{Truncate: true, NoTCP: true}}, patience: 3 * time.Second, says: []string{"ns1.many.example"}},
		{what: "no UDP", servers: []nameserver.Faults{{NoUDP: true}}},
		{what: "every second datagram is lost", resolver: nameserver.Faults{DropEvery: 2}, servers: []nameserver.Faults{{DropEvery: 2}}},
		{what: "slow servers", servers: []nameserver.Faults{{Delay: 200 * time.Millisecond}, {Delay: 400 * time.Millisecond}}},
		{what: "the resolver fails", resolver: nameserver.Faults{Rcode: dns.RcodeServerFailure}, says: []string{"SERVFAIL"}},
		{what: "the resolver is dead", resolver: nameserver.Faults{Dead: true}, says: []string{"no answer"}},
		{what: "NXDOMAIN cached", resolver: nameserver.Faults{NegativeCache: time.Hour}, early: true},
		{what: "NXDOMAIN cached, and an alias made since", resolver: nameserver.Faults{NegativeCache: time.Hour}, early: true,
			late: []string{owner + " CNAME x.acme.example.net."}, place: "x.acme.example.net."},
		{what: "an alias into another zone", records: []string{owner + " CNAME x.acme.example.net."}, place: "x.acme.example.net."},
		{what: "a wildcard alias", records: []string{"* CNAME w.acme.example.net."}},
		{what: "a wildcard alias, and servers that lag", records: []string{"* CNAME w.acme.example.net."}, servers: []nameserver.Faults{{}, {Lag: 2 * time.Second}}},
		{what: "a wildcard alias, and a resolver that knows it", records: []string{"* CNAME w.acme.example.net."}, early: true},
		{what: "an alias with the target of a wildcard", records: []string{"* CNAME w.acme.example.net.", owner + " CNAME w.acme.example.net."}, place: "w.acme.example.net."},
		{what: "a wildcard alias that does not reach below a name", records: []string{"* CNAME w.acme.example.net.", "fresh A 127.0.0.1"}},
		{what: "a wildcard alias one label down", records: []string{"*.fresh CNAME w.acme.example.net.", "fresh A 127.0.0.1"}},
		{what: "a wildcard address", records: []string{"* A 127.0.0.1", "* MX 10 mx"}},
		{what: "one server has an alias that the others do not", servers: []nameserver.Faults{{}, {}, {Edit: aliased(owner)}}, patience: 3 * time.Second, says: []string{"ns3.many.example", "it has a CNAME at _acme-challenge.fresh.many.example"}},
		{what: "one server has another value", servers: []nameserver.Faults{{}, {Edit: without("new")}}, patience: 3 * time.Second, says: []string{"ns2.many.example", "does not serve"}},
		{what: "one server has another value, quorum", servers: []nameserver.Faults{{}, {Edit: without("new")}}, require: resolve.Quorum},
		{what: "the first server says that the zone ends above, quorum", servers: []nameserver.Faults{{Edit: parked}}, require: resolve.Quorum},
		{what: "one server says that the zone ends above", servers: []nameserver.Faults{{}, {Edit: parked}}, patience: 3 * time.Second, says: []string{"ns2.many.example"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3, tt.records...)
			resolver := listen(t, f.world, "127.0.0.1:0")
			f.Resolver = resolve.New([]string{resolver.Address()}, f.servers[0].Address(), f.servers[1].Address(), f.servers[2].Address())
			resolver.SetFaults(tt.resolver)
			for i, faults := range tt.servers {
				f.servers[i].SetFaults(faults)
			}
			if tt.early {
				if found := f.LookTXT(t.Context(), owner); found.Err != nil {
					t.Fatal(found.Err)
				}
			}
			if err := f.world.Add(tt.late...); err != nil {
				t.Fatal(err)
			}
			tt.place, tt.require, tt.patience = cmp.Or(tt.place, owner), cmp.Or(tt.require, resolve.All), cmp.Or(tt.patience, 20*time.Second)
			err := f.prove(t, owner, tt.place, tt.require, tt.patience)
			if (err == nil) != (tt.says == nil) {
				t.Fatalf("got %v", err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

// prove finds the place of a challenge, which must be the wanted one, makes the record and waits until it is seen.
func (f *fleet) prove(t *testing.T, owner, want string, require resolve.Require, patience time.Duration) error {
	place, err := f.Locate(t.Context(), owner)
	if err != nil {
		return err
	}
	if place.Name != want || !dns.IsSubDomain(place.Zone, place.Name) || dns.CountLabel(place.Zone) < 2 {
		t.Errorf("the record is to be made at %+v, want %s", place, want)
	}
	if err := f.world.Add(place.Name + ` 60 IN TXT "new"`); err != nil {
		t.Fatal(err)
	}
	return f.AwaitTXT(t.Context(), []resolve.TXT{{Name: place.Name, Zone: place.Zone, Values: []string{"new"}}}, require, patience, nil)
}

// aliased makes a server that has an alias at a name.
func aliased(owner string) func(_, reply *dns.Msg) *dns.Msg {
	return func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == owner && request.Question[0].Qtype == dns.TypeTXT {
			reply.Answer, reply.Ns = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 60}, Target: "old.example.net."}}, nil
		}
		return reply
	}
}

// without makes a server that lacks a TXT value.
func without(value string) func(_, reply *dns.Msg) *dns.Msg {
	return func(_, reply *dns.Msg) *dns.Msg {
		reply.Answer = slices.DeleteFunc(reply.Answer, func(rr dns.RR) bool {
			txt, ok := rr.(*dns.TXT)
			return ok && txt.Txt[0] == value
		})
		return reply
	}
}

// parked answers with authority for a zone above, as the servers of domain traders do.
func parked(_, reply *dns.Msg) *dns.Msg {
	reply.Rcode, reply.Answer = dns.RcodeNameError, nil
	reply.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.parking.", Mbox: "x."}}
	return reply
}

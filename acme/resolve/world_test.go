package resolve_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// world has the zones of the questions here. All of its servers know them all.
func world(t testing.TB, more map[string][]string) *nameserver.World {
	t.Helper()
	w := nameserver.New()
	zones := map[string][]string{
		"example.org": {
			"@ NS ns1", "ns1 A 127.0.0.1", "mx A 127.0.0.1", "a.b.deep A 127.0.0.1", "sub NS ns1", "sub.deep NS ns1",
			"_acme-challenge.alias CNAME target", "_acme-challenge.far CNAME x.acme.example.net.", "_acme-challenge.zone CNAME acme.example.net.",
			"_acme-challenge.chain CNAME one.example.com.", "*.wild CNAME w.acme.example.net.", "_acme-challenge.down CNAME y.sub.example.org.", "_acme-challenge.second CNAME other.wild.example.net.",
			"self CNAME self", "loop CNAME loop.example.com.", "long0 CNAME long1",
		},
		"sub.example.org":      {"@ NS ns1.example.org."},
		"sub.deep.example.org": {"@ NS ns1.example.org."},
		"example.com":          {"@ NS ns1.example.org.", "one CNAME two.example.net.", "loop CNAME loop.example.org."},
		"example.net":          {"@ NS ns1.example.org.", "two CNAME three.acme.example.net.", "acme NS ns1.example.org.", "wild NS ns1.example.org."},
		"wild.example.net":     {"@ NS ns1.example.org.", "* CNAME same.acme.example.net.", "_acme-challenge.real CNAME same.acme.example.net.", "host A 127.0.0.1"},
		"acme.example.net":     {"@ NS ns1.example.org.", "three TXT x"},
	}
	for i := 1; i < 14; i++ {
		zones["example.org"] = append(zones["example.org"], fmt.Sprintf("long%d CNAME long%d", i, i+1))
	}
	for apex, records := range more {
		zones[apex] = append(zones[apex], records...)
	}
	for apex, records := range zones {
		if err := w.AddZone(apex, records...); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func listen(t testing.TB, w *nameserver.World, address string, zones ...string) *nameserver.Server {
	t.Helper()
	s, err := w.Listen(address, zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ask makes a resolver that asks the servers.
func ask(servers ...*nameserver.Server) *resolve.Resolver {
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Address())
	}
	return resolve.New(addresses)
}

// firstOnly keeps the first of the CNAME records of an answer, as a server that does not follow them.
func firstOnly(_, reply *dns.Msg) *dns.Msg {
	if len(reply.Answer) > 0 && reply.Answer[0].Header().Rrtype == dns.TypeCNAME {
		reply.Answer, reply.Ns = reply.Answer[:1], nil
	}
	return reply
}

// silent is an address where datagrams are taken and nothing is answered, and connections are refused.
func silent(t testing.TB) string {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

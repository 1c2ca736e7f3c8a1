package nameserver_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

const keyName = "mxcert."

func secret() string {
	return base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes...."))
}

// newWorld has two zones, a child zone of one of them and a key.
func newWorld(t *testing.T) *nameserver.World {
	t.Helper()
	w := nameserver.New()
	for apex, records := range map[string][]string{
		"example.org": {
			"@ NS ns1", "ns1 A 127.0.0.1", "mx A 127.0.0.1", "mx AAAA ::1", "@ MX 10 mx", `@ CAA 0 issue "ca.example"`,
			"*.wild TXT any", "x.y.deep A 192.0.2.1",
			"alias CNAME far.alias", "far.alias CNAME target.example.com.", "loop CNAME loop", "out CNAME name.example.net.",
			"sub NS ns1.sub", "ns1.sub A 127.0.0.1", "lame NS ns.lame", "ns.lame A 192.0.2.53", "_25._tcp.mx TLSA 3 1 1 00ff",
		},
		"sub.example.org": {"@ NS ns1", "ns1 A 127.0.0.1", "host A 192.0.2.7"},
		"example.com":     {"@ NS ns1.example.org.", "target A 192.0.2.2", "back CNAME mx.example.org."},
	} {
		if err := w.AddZone(apex, records...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AddKey(keyName, dns.HmacSHA256, secret()); err != nil {
		t.Fatal(err)
	}
	return w
}

func listen(t *testing.T, w *nameserver.World, zones ...string) *nameserver.Server {
	t.Helper()
	s, err := w.Listen("127.0.0.1:0", zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	return s
}

// ask asks over a network ("udp", "tcp") with RD as given.
func ask(t *testing.T, network, address, name string, qtype uint16, rd bool) *dns.Msg {
	t.Helper()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	question.RecursionDesired = rd
	client := dns.Client{Net: network, Timeout: time.Minute}
	reply, _, err := client.ExchangeContext(t.Context(), question, address)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", name, dns.TypeToString[qtype], network, err)
	}
	return reply
}

// brief writes records as "name type data", sorted.
func brief(rrs []dns.RR) []string {
	short := make([]string, 0, len(rrs))
	for _, rr := range rrs {
		h := rr.Header()
		short = append(short, h.Name+" "+dns.TypeToString[h.Rrtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
	}
	slices.Sort(short)
	return short
}

func records(t *testing.T, lines ...string) []dns.RR {
	t.Helper()
	rrs := make([]dns.RR, 0, len(lines))
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// send signs an update with the world's key and sends it.
func send(t *testing.T, s *nameserver.Server, update *dns.Msg) int {
	t.Helper()
	update.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
	client := dns.Client{Net: "tcp", Timeout: time.Minute, TsigSecret: map[string]string{keyName: secret()}}
	reply, _, err := client.ExchangeContext(t.Context(), update, s.Address())
	if reply == nil {
		t.Fatal(err)
	}
	if err != nil && reply.Rcode != dns.RcodeNotAuth { // the client checks no signature on NOTAUTH
		t.Fatal(err)
	}
	return reply.Rcode
}

func insert(t *testing.T, s *nameserver.Server, zone string, lines ...string) {
	t.Helper()
	update := new(dns.Msg).SetUpdate(zone)
	update.Insert(records(t, lines...))
	if rcode := send(t, s, update); rcode != dns.RcodeSuccess {
		t.Fatalf("the update of %s is answered with %s", zone, dns.RcodeToString[rcode])
	}
}

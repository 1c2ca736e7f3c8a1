package dnsupdate

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzReadTLSA reads answers of a server that means harm, and records that it gives can be sent back.
func FuzzReadTLSA(f *testing.F) {
	const name = "_25._tcp.mx.example.org."
	for _, lines := range [][]string{
		{name + " 60 IN TLSA 3 1 1 ABCDEF"}, {name + " 60 IN CNAME a.example."}, {"x. 60 IN TLSA 3 1 1 00"}, {},
		{name + " 60 IN TLSA 3 1 1 00", name + " 60 IN RRSIG TLSA 13 3 60 20260101000000 20250101000000 1 example.org. AAAA"},
	} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeTLSA)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m dns.Msg
		if m.Unpack(wire) != nil {
			return
		}
		found := readTLSA(m.Answer, name)
		if found.Alias != "" && len(found.Records) > 0 {
			t.Errorf("%+v", found)
		}
		for _, text := range found.Records {
			rr, err := tlsaRecord(name, text, found.TTL)
			if err != nil {
				if strings.HasSuffix(text, " ") { // without data: it cannot be sent
					continue
				}
				t.Errorf("%q: %v", text, err)
				continue
			}
			if again := readTLSA([]dns.RR{rr}, name); len(again.Records) != 1 || again.Records[0] != text {
				t.Errorf("%q became %q", text, again.Records)
			}
		}
	})
}

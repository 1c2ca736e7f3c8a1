package resolve

import (
	"context"
	"crypto"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzLook gives what a resolver may answer to the questions of senders: the state must fit the answer, whatever it is.
func FuzzLook(f *testing.F) {
	const owner = "_25._tcp.mx.example.org."
	for _, lines := range [][]string{
		nil,
		{owner + " 60 IN TLSA 3 1 1 0123456789abcdef", owner + " 60 IN RRSIG TLSA 13 5 60 20261201000000 20261101000000 1 example.org. AAAA"},
		{owner + " 60 IN CNAME x.example.org.", "x.example.org. 60 IN TLSA 2 0 2 00"},
		{"example.org. 60 IN SOA a. b. 1 2 3 4 5", "example.org. 60 IN NSEC a.example.org. A RRSIG NSEC"},
		{"org. 60 IN DNAME net.", owner + " 60 IN CNAME _25._tcp.mx.example.net."},
		{owner + ` 60 IN TXT "v=STSv1; id=1;" "\\\"\001"`, owner + " 60 IN MX 10 .", owner + " 60 IN A 192.0.2.1", owner + " 60 IN AAAA ::1"},
	} {
		answer := new(dns.Msg)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			answer.Answer, answer.Ns = append(answer.Answer, rr), append(answer.Ns, rr)
		}
		raw, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		for _, qtype := range []uint16{dns.TypeTLSA, dns.TypeMX, dns.TypeTXT, dns.TypeCNAME} {
			f.Add(uint16(0x84a0), qtype, uint16(len(lines)), uint16(len(lines)), raw[12:])
			f.Add(uint16(0x8083), qtype, uint16(0), uint16(len(lines)), raw[12:])
		}
	}
	r := New([]string{"127.0.0.1:9"})
	r.memory.put("validates/127.0.0.1:9", true, time.Minute)
	f.Fuzz(func(t *testing.T, flags, qtype, answers, authorities uint16, sections []byte) {
		question := recursive(owner, qtype)
		bare := question.Copy()
		bare.Extra = nil
		raw, err := bare.Pack()
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(raw[2:], flags|0x8000)
		binary.BigEndian.PutUint16(raw[6:], answers)
		binary.BigEndian.PutUint16(raw[8:], authorities)
		answer := new(dns.Msg)
		if answer.Unpack(append(raw, sections...)) != nil || !answersTo(question, answer) || answer.Rcode == dns.RcodeServerFailure {
			return // no answer; SERVFAIL is asked about again
		}
		name, typeName := PlainName(owner), dns.TypeToString[qtype]
		found := r.read(context.Background(), answer, question, "127.0.0.1:9", Answer{Name: name, Type: typeName, State: Failed, Final: name})
		switch {
		case (found.Err != nil) != (found.State == Failed || found.State == Bogus):
			t.Errorf("state %s, error %v", found.State, found.Err)
		case found.Err != nil && len(found.records) > 0:
			t.Error("an error with records")
		case found.State == Secure && !answer.AuthenticatedData:
			t.Error("secure without the word of the validator")
		case found.Err == nil && len(found.records) == 0 && answer.Rcode != dns.RcodeNameError && !denies(answer, dns.Fqdn(found.Final)):
			t.Error("a denial without a proof")
		case found.Missing && len(found.records) > 0:
			t.Error("a name that does not exist has records")
		case len(found.Aliases) > mostAliases || len(found.records) > mostRecords || found.TTL < 0:
			t.Errorf("%d aliases, %d records for %s", len(found.Aliases), len(found.records), found.TTL)
		case found.Err == nil && (found.Final != name) != (len(found.Aliases) > 0):
			t.Errorf("%d aliases lead to %s", len(found.Aliases), found.Final)
		}
		if found.Err != nil && strings.ContainsAny(found.Err.Error(), "\n\r\x1b") {
			t.Errorf("control characters in %q", found.Err)
		}
		for _, rr := range found.records {
			if txt, ok := rr.(*dns.TXT); ok {
				_ = unescape(strings.Join(txt.Txt, ""))
			}
		}
	})
}

// FuzzTLSA reads the data of a TLSA record as they are sent, and gives the same data back.
func FuzzTLSA(f *testing.F) {
	for _, data := range []string{"", "\x03", "\x03\x01\x01", "\x03\x01\x01\x00", "\xff\xff\xff" + strings.Repeat("\x00", 300)} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 60000 {
			return
		}
		raw := append([]byte{0, 0, 52, 0, 1, 0, 0, 0, 60, byte(len(data) >> 8), byte(len(data))}, data...)
		rr, _, err := dns.UnpackRR(raw, 0)
		record, isTLSA := rr.(*dns.TLSA)
		if err != nil || !isTLSA {
			if len(data) >= 3 {
				t.Errorf("%x is not read: %v", data, err)
			}
			return
		}
		got, ok := readTLSA(record)
		if !ok || len(data) >= 3 && (got.Usage != data[0] || got.Selector != data[1] || got.MatchingType != data[2] || string(got.Data) != string(data[3:])) {
			t.Errorf("%x is read as %+v", data, got)
		}
	})
}

// FuzzSignatures gives what an authoritative server may answer to what verifies it.
func FuzzSignatures(f *testing.F) {
	const owner = "_25._tcp.mx.example.org."
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60}, Flags: 257, Protocol: 3, Algorithm: dns.ED25519}
	private, err := key.Generate(256)
	if err != nil {
		f.Fatal(err)
	}
	ring := keyring{zone: "example.org.", keys: []*dns.DNSKEY{key}}
	set := []dns.RR{&dns.TLSA{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeTLSA, Class: dns.ClassINET, Ttl: 60}, Usage: 3, Selector: 1, MatchingType: 1, Certificate: "00"}}
	sig := &dns.RRSIG{Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: "example.org.", Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(240 * time.Hour).Unix())}
	if err := sig.Sign(private.(crypto.Signer), set); err != nil {
		f.Fatal(err)
	}
	good := &dns.Msg{Answer: append(set, sig)}
	if got := ring.check(good.Answer, owner, dns.TypeTLSA); got.signature != Signed {
		f.Fatalf("%+v", got)
	}
	raw, err := good.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(raw) != nil {
			return
		}
		got := ring.check(answer.Answer, owner, dns.TypeTLSA)
		if got.signature == Signed && (len(answer.Answer) == 0 || got.until.Before(time.Now())) {
			t.Errorf("%+v", got)
		}
		if got := ring.checkDenial(answer); rank(got.signature) < 0 || got.signature == Signed && (len(answer.Ns) < 2 || got.until.IsZero()) {
			t.Errorf("%+v", got)
		}
	})
}

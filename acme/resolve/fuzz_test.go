package resolve

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzAnswer gives what a name server may send to everything that reads it.
func FuzzAnswer(f *testing.F) {
	const owner = "_acme-challenge.mx.example.org."
	question := new(dns.Msg).SetQuestion(owner, dns.TypeSOA)
	for _, lines := range [][]string{
		nil,
		{"example.org. 5 IN SOA ns1.example.org. h. 1 2 3 4 5"},
		{owner + " 5 IN CNAME x.example.net.", "x.example.net. 5 IN CNAME " + owner, "net. 5 IN SOA . . 1 2 3 4 5"},
		{owner + ` 5 IN TXT "a" "b"`, ". 5 IN SOA . . 1 2 3 4 5"},
		{"sub.example.org. 5 IN NS ns1.example.org.", "ns1.example.org. 5 IN A 192.0.2.1", "ns1.example.org. 5 IN AAAA ::1"},
		{owner + ` 5 IN CAA 128 issue "ca.example; accounturi=https://ca.example/1"`, owner + ` 5 IN CAA 0 issuewild ";"`},
	} {
		answer := new(dns.Msg).SetReply(question)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			answer.Answer, answer.Ns, answer.Extra = append(answer.Answer, rr), append(answer.Ns, rr), append(answer.Extra, rr)
		}
		answer.SetEdns0(1232, true)
		answer.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus, ExtraText: "why"}}
		raw, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(raw) != nil {
			return
		}
		if answersTo(question, answer) && !answer.Response {
			t.Error("a question is taken for an answer")
		}
		seen := map[string]bool{}
		if _, end := aliasesIn(answer, owner, "example.org.", seen); end != owner && end != "" && !seen[end] {
			t.Errorf("%q was never seen", end)
		}
		if place, ok := placeIn(answer, owner); ok && (place.Name != owner || !dns.IsSubDomain(place.Zone, owner) || place.Zone == "") {
			t.Errorf("%s is not in zone %q", owner, place.Zone)
		}
		for _, value := range txtValues(answer, owner) {
			if len(value) > 1<<18 { // four characters an octet at most
				t.Errorf("a value of %d bytes", len(value))
			}
		}
		if set := caaIn(answer, owner); len(set.Records) > mostCAA || (set.Owner != "" && set.Owner != owner) {
			t.Errorf("CAA of %+v", set)
		}
		if cut := referral(answer, "example.org.", owner); cut != "" && (!dns.IsSubDomain("example.org.", cut) || !dns.IsSubDomain(cut, owner)) {
			t.Errorf("a referral from example.org to %q", cut)
		}
		if names := hostsIn(answer.Ns, "sub.example.org."); len(names) > mostHosts {
			t.Errorf("%d hosts", len(names))
		}
		if glue := glueIn(answer); len(glue) > mostHosts {
			t.Errorf("glue of %d hosts", len(glue))
		}
		if life := lifeOf(answer); life < 0 || life > longestMemory {
			t.Errorf("remembered for %s", life)
		}
		_ = questionError(question, "192.0.2.1:53", answer, nil).Error()
	})
}

// FuzzNameServer is a resolver and an authoritative server whose answers are what the fuzzer wants, to whatever question:
// it must end, and what it finds must make sense.
func FuzzNameServer(f *testing.F) {
	const owner = "_acme-challenge.mx.example.org."
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it lives as long as the process
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() })
	for _, lines := range [][]string{
		{"example.org. 5 IN SOA ns1.example.org. h. 1 2 3 4 5", "example.org. 5 IN NS ns1.example.org.", "ns1.example.org. 5 IN A 127.0.0.1"},
		{owner + " 5 IN CNAME x.example.org.", "example.org. 5 IN SOA ns1.example.org. h. 1 2 3 4 5", "example.org. 5 IN NS x.example.org."},
		{owner + ` 5 IN TXT "wanted"`, `example.org. 5 IN CAA 0 issue "ca.example"`},
	} {
		message := new(dns.Msg)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			message.Answer, message.Ns = append(message.Answer, rr), append(message.Ns, rr)
		}
		raw, err := message.Pack()
		if err != nil {
			f.Fatal(err)
		}
		counts := byte(len(message.Answer) | len(message.Ns)<<2)
		f.Add(byte(0x84), byte(0), counts, raw[12:])
		f.Add(byte(0x80), byte(dns.RcodeNameError), counts, raw[12:])
	}
	f.Fuzz(func(t *testing.T, flags, rcode, counts byte, sections []byte) {
		said := &speech{flags: flags, rcode: rcode, counts: counts, sections: sections}
		if len(sections) > 1000 || said.about(new(dns.Msg).SetQuestion(owner, dns.TypeTXT)) == nil {
			return // no message, which is for FuzzAnswer
		}
		ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		_ = conn.SetReadDeadline(time.Time{})
		done := make(chan struct{})
		go func() { defer close(done); said.toAll(conn) }()
		r := New([]string{conn.LocalAddr().String()})
		if place, err := r.Locate(ctx, owner); err == nil && (place.Zone == "" || !dns.IsSubDomain(place.Zone, place.Name)) {
			t.Errorf("%+v", place)
		}
		if d, err := r.Delegation(ctx, "example.org."); err == nil && len(d.Servers) == 0 {
			t.Error("a delegation without servers")
		}
		if set, err := r.CAA(ctx, "mx.example.org"); err == nil && (len(set.Records) > 0) != (set.Owner != "") {
			t.Errorf("%+v", set)
		}
		if set := r.LookTLSA(ctx, "_25._tcp.mx.example.org"); set.Err != nil && (len(set.Records) > 0 || set.Denied()) {
			t.Errorf("%+v", set)
		}
		if served, err := r.ServedTLSA(ctx, "_25._tcp.mx.example.org"); err == nil && len(served.Answers) != len(served.Servers) {
			t.Errorf("%+v", served)
		}
		_ = r.AwaitTXT(ctx, []TXT{{Name: owner, Zone: "example.org.", Values: []string{"wanted"}}}, All, 20*time.Millisecond, func(text string) {
			if strings.ContainsAny(text, "\n\r\x1b") {
				t.Errorf("what is told has control characters: %q", text)
			}
		})
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
	})
}

// speech is what the server says to every question.
type speech struct {
	flags, rcode, counts byte
	sections             []byte
}

// about makes the reply to a question; nil where it is no message. Its addresses are this host's: nobody else is asked.
func (s *speech) about(question *dns.Msg) []byte {
	question.Extra = nil
	raw, err := question.Pack()
	if err != nil {
		return nil
	}
	raw[2], raw[3] = s.flags|0x80, s.rcode
	for i := range 3 {
		binary.BigEndian.PutUint16(raw[6+2*i:], uint16(s.counts>>(2*i))&3)
	}
	reply := new(dns.Msg)
	if reply.Unpack(append(raw, s.sections...)) != nil {
		return nil
	}
	for _, rr := range slices.Concat(reply.Answer, reply.Ns, reply.Extra) {
		switch rr := rr.(type) {
		case *dns.A:
			rr.A = net.IPv4(127, 0, 0, 1)
		case *dns.AAAA:
			rr.AAAA = net.IPv6loopback
		}
	}
	if raw, err = reply.Pack(); err != nil {
		return nil
	}
	return raw
}

func (s *speech) toAll(conn net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, peer, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		question := new(dns.Msg)
		if question.Unpack(buffer[:n]) == nil {
			_, _ = conn.WriteTo(s.about(question), peer)
		}
	}
}

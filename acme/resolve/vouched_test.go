package resolve_test

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
)

// A resolver that forgives signatures which have just expired, or are not valid yet by its own clock, has validated them all the same:
// senders that ask it deliver. At other times, the dates count.
func TestForgivenSignatures(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct{ since, until time.Duration }{
		"expired":       {-240 * time.Hour, -30 * time.Minute},
		"about to":      {-240 * time.Hour, time.Second},
		"not valid yet": {5 * time.Minute, 240 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := resolve.New([]string{validating(t, &dns.RRSIG{Inception: uint32(now.Add(tt.since).Unix()), Expiration: uint32(now.Add(tt.until).Unix())})})
			got := r.LookIPv4(t.Context(), "mx.example.org")
			if got.State != resolve.Secure || got.At(now) != resolve.Secure || got.At(time.Now().Add(5*time.Minute)) != resolve.Secure {
				t.Errorf("%+v is %s now", got, got.At(now))
			}
			if got.At(now.Add(300*time.Hour)) != resolve.Bogus || got.At(now.Add(-300*time.Hour)) != resolve.Bogus {
				t.Errorf("%+v is secure at any time", got)
			}
		})
	}
}

// validating is a resolver that answers every question with one address, a signature with the dates of another, and AD.
func validating(t *testing.T, dates *dns.RRSIG) string {
	t.Helper()
	return answering(t, func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		name := question.Question[0].Name
		answer.AuthenticatedData = true
		answer.Answer = []dns.RR{
			&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)},
			&dns.RRSIG{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 60}, TypeCovered: dns.TypeA, Algorithm: dns.ECDSAP256SHA256,
				Labels: 3, OrigTtl: 60, Inception: dates.Inception, Expiration: dates.Expiration, SignerName: "example.org.", Signature: "c2lnbmVk"},
		}
		_ = w.WriteMsg(answer)
	})
}

package resolve_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// judged is a world with a signed root and TLD, and zones of each kind below.
func judged(t testing.TB) *nameserver.World {
	t.Helper()
	w := world(t, map[string][]string{
		".": {"@ NS ns1.example.org."},
		"secure.test": {"@ MX 20 mx2", "@ MX 10 MX1.secure.test.", "mx1 A 192.0.2.1", "mx1 A 192.0.2.2", "mx1 AAAA 2001:db8::1", "www CNAME mx1",
			"out CNAME mx.insecure.test.", "broken CNAME mx.bogus.test.", "_25._tcp.mx1 TLSA 3 1 1 0123456789abcdef", `_mta-sts TXT "v=STSv1; " "id=\"a\\b\195\164\";"`,
			"null MX 0 .", "loop CNAME loop2", "loop2 CNAME loop"},
		"insecure.test": {"mx A 192.0.2.3", "in CNAME mx1.secure.test."},
		"bogus.test":    {"mx A 192.0.2.4"},
	})
	for zone, trust := range map[string]nameserver.Trust{".": nameserver.Secure, "secure.test": nameserver.Secure, "bogus.test": nameserver.Bogus} {
		if err := w.SetTrust(zone, trust); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// TestStates is the state of each kind of answer, as a validating resolver on loopback sees it.
func TestStates(t *testing.T) {
	t.Parallel()
	s := listen(t, judged(t), "127.0.0.1:0")
	r := ask(s)
	for _, tt := range []struct {
		name, state, final, records string
		missing                     bool
		says                        string // of the error
	}{
		{name: "mx1.secure.test", state: "secure", records: "192.0.2.1 192.0.2.2"},
		{name: "MX1.Secure.TEST.", state: "secure", records: "192.0.2.1 192.0.2.2"},
		{name: "www.secure.test", state: "secure", final: "mx1.secure.test", records: "192.0.2.1 192.0.2.2"},
		{name: "secure.test", state: "secure"},
		{name: "none.secure.test", state: "secure", missing: true},
		{name: "out.secure.test", state: "insecure", final: "mx.insecure.test", records: "192.0.2.3"},
		{name: "mx.insecure.test", state: "insecure", records: "192.0.2.3"},
		{name: "in.insecure.test", state: "insecure", final: "mx1.secure.test", records: "192.0.2.1 192.0.2.2"},
		{name: "none.insecure.test", state: "insecure", missing: true},
		{name: "mx.bogus.test", state: "bogus", says: "answers when asked not to validate"},
		{name: "broken.secure.test", state: "bogus", says: "is bogus"},
		{name: "loop.secure.test", state: "error", says: "loop"},
		{name: "a..b", state: "error", says: "not a domain name"},
		{name: strings.Repeat("abcdefgh.", 40), state: "error", says: "not a domain name"},
	} {
		got := r.LookIPv4(t.Context(), tt.name)
		if tt.final == "" {
			tt.final = strings.ToLower(strings.TrimSuffix(tt.name, "."))
		}
		text := strings.Trim(fmt.Sprint(got.Records), "[]")
		if string(got.State) != tt.state || text != tt.records || got.Missing != tt.missing || got.Final != tt.final {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if (got.Err != nil) != (tt.says != "") || got.Err != nil && (!strings.Contains(got.Err.Error(), tt.says) || got.Denied()) {
			t.Errorf("%s: %v", tt.name, got.Err)
		}
		if got.Validator != s.Address() && tt.says != "not a domain name" {
			t.Errorf("%s: validated by %q", tt.name, got.Validator)
		}
	}
}

// TestRecords reads every type.
func TestRecords(t *testing.T) {
	t.Parallel()
	r := ask(listen(t, judged(t), "127.0.0.1:0"))
	ctx := t.Context()
	if got := r.LookMX(ctx, "secure.test"); !slices.Equal(got.Records, []resolve.MX{{"mx1.secure.test", 10}, {"mx2.secure.test", 20}}) || got.TTL != time.Minute {
		t.Errorf("MX: %+v", got)
	}
	if got := r.LookMX(ctx, "null.secure.test"); !slices.Equal(got.Records, []resolve.MX{{"", 0}}) {
		t.Errorf("null MX: %+v", got)
	}
	if got := r.LookIPv6(ctx, "www.secure.test"); !slices.Equal(got.Records, []netip.Addr{netip.MustParseAddr("2001:db8::1")}) || !slices.Equal(got.Aliases, []resolve.Alias{{"www.secure.test", "mx1.secure.test"}}) {
		t.Errorf("AAAA: %+v", got)
	}
	if got := r.LookTLSA(ctx, "_25._tcp.mx1.secure.test"); len(got.Records) != 1 || got.Records[0].Usage != 3 || len(got.Records[0].Data) != 8 {
		t.Errorf("TLSA: %+v", got)
	}
	if got := r.LookTXT(ctx, "_mta-sts.secure.test"); !slices.Equal(got.Records, []string{`v=STSv1; id="a\bä";`}) {
		t.Errorf("TXT: %q", got.Records)
	}
	if got := r.LookAlias(ctx, "out.secure.test"); !slices.Equal(got.Records, []string{"mx.insecure.test"}) || got.State != resolve.Secure {
		t.Errorf("an alias that is secure, whatever it leads to: %+v", got)
	}
	if got := r.LookAlias(ctx, "www.secure.test"); !slices.Equal(got.Records, []string{"mx1.secure.test"}) || got.Final != "www.secure.test" {
		t.Errorf("alias: %+v", got)
	}
	if got := r.LookPTR(ctx, netip.MustParseAddr("192.0.2.1")); got.Err != nil || !got.Denied() {
		t.Errorf("PTR: %+v", got)
	}
}

// TestErrorsAreNoDenials: whatever a resolver does wrong, it does not make a record disappear.
func TestErrorsAreNoDenials(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		edit func(reply *dns.Msg)
		says string
	}{
		"SERVFAIL":                    {func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeServerFailure, nil }, "SERVFAIL"},
		"REFUSED":                     {func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil }, "REFUSED"},
		"NOTAUTH":                     {func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeNotAuth, nil }, "NOTAUTH"},
		"YXDOMAIN":                    {func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeYXDomain, nil }, "YXDOMAIN"},
		"an empty answer":             {func(m *dns.Msg) { m.Answer, m.Ns = nil, nil }, "SOA"},
		"a referral":                  {func(m *dns.Msg) { m.Answer, m.Ns = nil, records("test. 60 IN NS ns1.test.") }, "SOA"},
		"the SOA of another name":     {func(m *dns.Msg) { m.Answer, m.Ns = nil, records("example.org. 60 IN SOA a. b. 1 2 3 4 5") }, "SOA"},
		"an alias that leads nowhere": {func(m *dns.Msg) { m.Answer, m.Ns = records("mx1.secure.test. 60 IN CNAME x.secure.test."), nil }, "SOA"},
		"other records":               {func(m *dns.Msg) { m.Answer, m.Ns = records("mx2.secure.test. 60 IN A 192.0.2.9"), nil }, "SOA"},
		"another class":               {func(m *dns.Msg) { m.Answer, m.Ns = records("mx1.secure.test. 60 CH A 192.0.2.9"), nil }, "SOA"},
		"a loop":                      {func(m *dns.Msg) { m.Answer = records("mx1.secure.test. 60 IN CNAME mx1.secure.test.") }, "loop"},
		"another question":            {func(m *dns.Msg) { m.Question[0].Name = "mx2.secure.test." }, "not about the question"},
		"a question":                  {func(m *dns.Msg) { m.Response = false }, "not about the question"},
		"many aliases":                {func(m *dns.Msg) { m.Answer = chain("mx1.secure.test.", 40) }, "CNAME"},
		"too many records":            {func(m *dns.Msg) { m.Answer = many("mx1.secure.test.", 2000) }, "2000 records"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := listen(t, judged(t), "127.0.0.1:0")
			s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if request.Question[0].Qtype == dns.TypeA {
					tt.edit(reply)
				}
				return reply
			}})
			got := ask(s).LookIPv4(t.Context(), "mx1.secure.test")
			if got.State != resolve.Failed || got.Err == nil || got.Denied() || len(got.Records) > 0 || !strings.Contains(got.Err.Error(), tt.says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func records(lines ...string) (list []dns.RR) {
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		list = append(list, rr)
	}
	return list
}

func chain(owner string, n int) (list []dns.RR) {
	for i := range n {
		next := fmt.Sprintf("c%d.secure.test.", i)
		list = append(list, records(owner+" 60 IN CNAME "+next)...)
		owner = next
	}
	return append(list, records(owner+" 60 IN A 192.0.2.1")...)
}

func many(owner string, n int) (list []dns.RR) {
	for i := range n {
		list = append(list, records(fmt.Sprintf("%s 60 IN A 10.0.%d.%d", owner, i/256, i%256))...)
	}
	return list
}

// TestEachQuestionOnce: whoever wants to know something at the same time, or soon after, costs one question; an error is not remembered.
func TestEachQuestionOnce(t *testing.T) {
	t.Parallel()
	w := judged(t)
	s := listen(t, w, "127.0.0.1:0")
	s.SetFaults(nameserver.Faults{Delay: 20 * time.Millisecond})
	r := ask(s)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() { r.LookIPv4(t.Context(), "mx1.secure.test") })
		wait.Go(func() { r.LookIPv4(t.Context(), "MX1.secure.test") })
		wait.Go(func() { r.LookIPv4(t.Context(), "mx.insecure.test") })
		wait.Go(func() { r.LookIPv4(t.Context(), "none.insecure.test") })
	}
	wait.Wait()
	r.LookIPv4(t.Context(), "mx1.secure.test")
	if n := len(w.Queries()); n > 4 { // the three names, and the root
		t.Errorf("%d questions: %v", n, w.Queries())
	}
	w.ResetLog()
	s.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure})
	if got := r.LookIPv6(t.Context(), "mx1.secure.test"); got.State != resolve.Failed {
		t.Errorf("%+v", got)
	}
	s.SetFaults(nameserver.Faults{})
	if got := r.LookIPv6(t.Context(), "mx1.secure.test"); got.State != resolve.Secure {
		t.Errorf("an error is remembered: %+v", got)
	}
}

// TestServedOfABogusZone: without a validator's word nothing in the zone is found, and the error says why.
func TestServedOfABogusZone(t *testing.T) {
	t.Parallel()
	r := ask(listen(t, judged(t), "127.0.0.1:0"))
	_, err := r.ServedTLSA(t.Context(), "_25._tcp.mx.bogus.test")
	if e, ok := errors.AsType[*resolve.Error](err); !ok || e.Kind() != "dnssec" || !strings.Contains(err.Error(), "is bogus") || !strings.Contains(e.Hint(), "delv") {
		t.Errorf("error %v", err)
	}
}

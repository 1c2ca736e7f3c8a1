package mtasts

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
)

// TestLook is what a sender sees of a good policy.
func TestLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, record, "mta-sts A 192.0.2.1")
	w.serve("192.0.2.1", w.pair(nil), policy(good))
	for _, domain := range []string{"example.org", "EXAMPLE.org."} {
		f := w.client.Look(t.Context(), domain)
		f.expect(t, domain, "")
		if f.Domain != "example.org" || f.ID != "20261129" || f.Policy == nil || f.Policy.Mode != Enforce || f.Policy.MaxAge != 14*24*time.Hour || !slices.Equal(f.Policy.MX, []string{"mx.example.org", "*.mail.example.org"}) {
			t.Errorf("found %s", show(f))
		}
	}
}

// TestRecords: what counts as the record, over the wire (RFC 8461 section 3.1).
func TestRecords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what, records, kind string
		findings            []string
		says                string
	}{
		{what: "no record", says: "has no MTA-STS"},
		{what: "another record", records: `_mta-sts TXT "v=spf1 -all"`, says: "has no MTA-STS"},
		{what: "no delimiter at the end", records: `_mta-sts TXT "v=STSv1; id=1"`},
		{what: "spaces", records: `_mta-sts TXT "v=STSv1 ;  id=1 ; "`},
		{what: "several strings are one", records: `_mta-sts TXT "v=STS" "v1; id=" "1;"`},
		{what: "another record beside it", records: `_mta-sts TXT "v=STSv1; id=1"` + "\n" + `_mta-sts TXT "hello"`},
		{what: "extensions", records: `_mta-sts TXT "v=STSv1; a.b-c_d=!<>; id=1; x=y"`},
		{what: "the first id counts", records: `_mta-sts TXT "v=STSv1; id=1; id=2"`, findings: []string{"warning sts-record-duplicate"}},
		{what: "an alias", records: "_mta-sts CNAME other\n" + `other TXT "v=STSv1; id=1"`},
		{what: "two records", records: `_mta-sts TXT "v=STSv1; id=1"` + "\n" + `_mta-sts TXT "v=STSv1; id=2"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "there are 2 TXT records"},
		{what: "of several, one begins with v=STSv1;", records: `_mta-sts TXT "v=STSv1; id=1"` + "\n" + `_mta-sts TXT "v=STSv1 ; id=2"` + "\n" + `_mta-sts TXT "v=STSv1"`},
		{what: "of several, none does", records: `_mta-sts TXT "v=STSv1"` + "\n" + `_mta-sts TXT "v=STSv1 ; id=2"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "there are 2 TXT records"},
		{what: "a version that is only similar", records: `_mta-sts TXT "v=STSv10; id=1"`, findings: []string{"warning sts-record-ignored"}, says: "has no MTA-STS"},
		{what: "the case of the version counts", records: `_mta-sts TXT "v=stsv1; id=1"`, findings: []string{"warning sts-record-ignored"}, says: "has no MTA-STS"},
		{what: "a space first", records: `_mta-sts TXT " v=STSv1; id=1"`, findings: []string{"warning sts-record-ignored"}, says: "has no MTA-STS"},
		{what: "no id", records: `_mta-sts TXT "v=STSv1;"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "has no id"},
		{what: "only the version", records: `_mta-sts TXT "v=STSv1"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "has no id"},
		{what: "an id with a dash", records: `_mta-sts TXT "v=STSv1; id=2026-11-29;"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "2026-11-29"},
		{what: "a long id", records: `_mta-sts TXT "v=STSv1; id=` + strings.Repeat("a", 33) + `;"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "1 to 32"},
		{what: "the longest id", records: `_mta-sts TXT "v=STSv1; id=` + strings.Repeat("a", 32) + `;"`},
		{what: "an empty field", records: `_mta-sts TXT "v=STSv1;; id=1"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "not NAME=VALUE"},
		{what: "no value", records: `_mta-sts TXT "v=STSv1; id=1; x"`, kind: PolicyInvalid, findings: []string{"error sts-record-invalid"}, says: "not NAME=VALUE"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, append(strings.Split(tt.records, "\n"), "mta-sts A 192.0.2.1")...)
			w.serve("192.0.2.1", w.pair(nil), policy(good))
			f := w.look()
			f.expect(t, tt.what, tt.kind, tt.findings...)
			if (f.Policy == nil) != (tt.says != "") || !strings.Contains(f.Reason, tt.says) {
				t.Errorf("%s, want a reason that says %q", show(f), tt.says)
			}
		})
	}
}

// TestFailures: what keeps a sender from a policy, with the types of RFC 8460.
func TestFailures(t *testing.T) {
	t.Parallel()
	answer := func(status int, header, value, body string) http.HandlerFunc {
		return func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set(header, value)
			out.WriteHeader(status)
			_, _ = out.Write([]byte(body))
		}
	}
	at := func(before, after time.Duration) *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"mta-sts.example.org"}, NotBefore: time.Now().Add(before), NotAfter: time.Now().Add(after)}
	}
	for _, tt := range []struct {
		what        string
		certificate *x509.Certificate
		handler     http.HandlerFunc
		kind, id    string
		says        string
	}{
		{what: "404", handler: answer(404, "Content-Type", "text/plain", good), kind: FetchError, says: "404"},
		{what: "201", handler: answer(201, "Content-Type", "text/plain", good), kind: FetchError, says: "201"},
		{what: "a redirect", handler: answer(301, "Location", "https://www.example.org/mta-sts.txt", ""), kind: FetchError, id: "sts-policy-redirect", says: "https://www.example.org/mta-sts.txt"},
		{what: "a redirect to itself", handler: answer(302, "Location", path, ""), kind: FetchError, id: "sts-policy-redirect", says: "302"},
		{what: "HTML", handler: answer(200, "Content-Type", "text/html", good), kind: PolicyInvalid, id: "sts-policy-media-type", says: "text/html"},
		{what: "no policy in it", handler: policy("<html>"), kind: PolicyInvalid, says: "line 1"},
		{what: "an empty answer", handler: policy(""), kind: PolicyInvalid, says: "no version"},
		{what: "64 KiB and one byte", handler: policy(good + strings.Repeat("x", 64<<10+1-len(good))), kind: FetchError, says: "larger than 64 KiB"},
		{what: "another name", certificate: &x509.Certificate{DNSNames: []string{"www.example.org"}}, kind: WebPKIInvalid, says: "www.example.org"},
		{what: "a name as CN only", certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "mta-sts.example.org"}}, kind: WebPKIInvalid, says: "certificate"},
		{what: "a wildcard of two labels", certificate: &x509.Certificate{DNSNames: []string{"*.org"}}, kind: WebPKIInvalid, says: "*.org"},
		{what: "expired", certificate: at(-48*time.Hour, -time.Hour), kind: WebPKIInvalid, says: "expired"},
		{what: "not valid yet", certificate: at(time.Hour, 48*time.Hour), kind: WebPKIInvalid, says: "not yet valid"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, record, "mta-sts A 192.0.2.1")
			if tt.handler == nil {
				tt.handler = policy(good)
			}
			w.serve("192.0.2.1", w.pair(tt.certificate), tt.handler)
			f := w.look()
			if tt.id == "" {
				tt.id = tt.kind
			}
			f.expect(t, tt.what, tt.kind, "error "+tt.id)
			if f.Policy != nil || !strings.Contains(f.Reason, tt.says) || f.ID == "" {
				t.Errorf("%s, want a reason that says %q", show(f), tt.says)
			}
		})
	}
}

// TestLookAtATime: a certificate is judged at the time that was asked for; one that nobody renewed is found before it expires.
func TestLookAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, record, "mta-sts A 192.0.2.1")
	w.serve("192.0.2.1", w.pair(&x509.Certificate{DNSNames: []string{"*.example.org"}}), policy(good))
	for days, want := range map[int][]string{0: nil, 75: nil, 77: {"warning sts-certificate-expiring"}, 91: {"error " + WebPKIInvalid}} {
		w.client.At = time.Now().Add(time.Duration(days) * 24 * time.Hour)
		if f := w.look(); !slices.Equal(ids(f.Findings), want) {
			t.Errorf("after %d days: %s, want %q", days, show(f), want)
		}
	}
}

// TestAddresses: every address of the policy host has to serve the policy.
func TestAddresses(t *testing.T) {
	t.Parallel()
	both := []string{record, "mta-sts A 192.0.2.1", "mta-sts AAAA 2001:db8::1"}
	for _, tt := range []struct {
		what     string
		breaks   func(w *world)
		kind     string
		findings []string
		says     string
	}{
		{what: "both serve it", breaks: func(w *world) { w.serve("2001:db8::1", w.pair(nil), policy(good)) }},
		{what: "nothing listens at the IPv6 address", breaks: func(w *world) { w.ports["2001:db8::1"] = port.Address(w.t) }, findings: []string{"warning sts-policy-host-address"}, says: "have only IPv6"},
		{what: "the IPv6 address has another certificate", breaks: func(w *world) {
			w.serve("2001:db8::1", w.pair(&x509.Certificate{DNSNames: []string{"www.example.org"}}), policy(good))
		}, findings: []string{"error sts-policy-host-address"}, says: "www.example.org"},
		{what: "the IPv6 address has another site", breaks: func(w *world) { w.serve("2001:db8::1", w.pair(nil), http.NotFound) }, findings: []string{"error sts-policy-host-address"}, says: "404"},
		{what: "the IPv6 address has an older policy", breaks: func(w *world) {
			w.serve("2001:db8::1", w.pair(nil), policy(strings.Replace(good, "enforce", "testing", 1)))
		}, findings: []string{"error sts-policy-differs"}, says: "another at 2001:db8::1"},
		{what: "this host has no IPv6", breaks: func(w *world) { w.noRoute("2001:db8::1") }},
		{what: "this host has neither", breaks: func(w *world) { w.noRoute("2001:db8::1", "192.0.2.1") }, kind: FetchError, findings: []string{"warning " + FetchError}, says: "no route"},
		{what: "AAAA fails", breaks: func(w *world) {
			w.dns.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if request.Question[0].Qtype == dns.TypeAAAA {
					reply.Rcode, reply.Answer = dns.RcodeServerFailure, nil
				}
				return reply
			}})
		}, findings: []string{"warning sts-policy-host-address"}, says: "SERVFAIL"},
		{what: "no address", breaks: func(w *world) { w.check(w.zones.Remove("mta-sts.example.org.")) }, kind: FetchError, findings: []string{"error " + FetchError}, says: "has no address"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, both...)
			w.serve("192.0.2.1", w.pair(nil), policy(good))
			tt.breaks(w)
			f := w.look()
			f.expect(t, tt.what, tt.kind, tt.findings...)
			if tt.says != "" && !strings.Contains(fmt.Sprint(f.Findings), tt.says) {
				t.Errorf("%s, want one that says %q", show(f), tt.says)
			}
			if f.NotJudged != (tt.says == "no route") {
				t.Errorf("not judged: %v", f.NotJudged)
			}
		})
	}
}

// noRoute makes connections to addresses fail as on a host without that address family.
func (w *world) noRoute(addresses ...string) {
	dial := w.client.Dialer
	w.client.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); slices.Contains(addresses, host) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		return dial(ctx, network, address)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestDNSErrors: an error of DNS is never "no MTA-STS".
func TestDNSErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, record, "mta-sts A 192.0.2.1")
	w.dns.SetFaults(nameserver.Faults{Rcode: 2})
	f := w.look()
	f.expect(t, "SERVFAIL", FetchError, "warning "+FetchError)
	if !f.NotJudged || !strings.Contains(f.Reason, "SERVFAIL") {
		t.Errorf("%s", show(f))
	}
}

// TestStray: a policy without a record is found only if somebody asks for it, because senders do not.
func TestStray(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "mta-sts A 192.0.2.1")
	w.serve("192.0.2.1", w.pair(nil), policy(good))
	w.look().expect(t, "as a sender", "")
	w.client.Stray = true
	f := w.look()
	f.expect(t, "as a postmaster", "", "warning sts-policy-without-record")
	if f.Policy != nil {
		t.Errorf("senders have no policy: %s", show(f))
	}
}

// The roots of a mail host's private CA need not be those of the policy host.
func TestRootsOfThePolicyHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, record, "mta-sts A 192.0.2.1")
	w.serve("192.0.2.1", w.pair(nil), policy(good))
	right := w.client.Roots
	w.client.Roots = x509.NewCertPool()
	w.look().expect(t, "another CA", WebPKIInvalid, "error sts-webpki-invalid")
	w.client.Also = x509.NewCertPool()
	w.look().expect(t, "two other CAs", WebPKIInvalid, "error sts-webpki-invalid")
	w.client.Also = right
	w.look().expect(t, "another CA, and the right one", "")
}

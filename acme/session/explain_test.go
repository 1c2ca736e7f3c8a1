package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/transport"
)

func TestExplainProblem(t *testing.T) {
	acme := func(kind string) string { return "urn:ietf:params:acme:error:" + kind }
	for _, tt := range []struct {
		problem   legoacme.ProblemDetails
		kind      string
		temporary bool
		says      string
		hint      string
	}{
		{legoacme.ProblemDetails{Type: acme("rejectedIdentifier"), HTTPStatus: 400, Detail: "policy"}, "ca-refused", false, "ca.example answered 400 to the order: policy (rejectedIdentifier)", "domains"},
		{legoacme.ProblemDetails{Type: acme("externalAccountRequired"), HTTPStatus: 403}, "ca-refused", false, "externalAccountRequired", "acme.eab.kid"},
		{legoacme.ProblemDetails{Type: acme("invalidProfile"), HTTPStatus: 400}, "ca-refused", false, "invalidProfile", "acme.profile"},
		{legoacme.ProblemDetails{Type: acme("invalidContact"), HTTPStatus: 400}, "ca-refused", false, "", "acme.email"},
		{legoacme.ProblemDetails{Type: acme("caa"), HTTPStatus: 403}, "ca-refused", false, "", "CAA"},
		{legoacme.ProblemDetails{Type: acme("userActionRequired"), HTTPStatus: 403}, "ca-refused", false, "", "terms"},
		{legoacme.ProblemDetails{Type: acme("badCSR"), HTTPStatus: 400}, "ca-refused", false, "", "keys"},
		{legoacme.ProblemDetails{Type: acme("unauthorized"), HTTPStatus: 403}, "ca-refused", false, "", "account"},
		{legoacme.ProblemDetails{Type: acme("unheardOf"), HTTPStatus: 400}, "ca-refused", false, "unheardOf", "message of the CA"},
		{legoacme.ProblemDetails{Type: acme("serverInternal"), HTTPStatus: 400}, "ca-error", true, "", "tries again"},
		{legoacme.ProblemDetails{Type: acme("malformed"), HTTPStatus: 502}, "ca-error", true, "502", "tries again"},
		{legoacme.ProblemDetails{Type: transport.BadNonce, HTTPStatus: 400}, "ca-error", true, "(badNonce)", "tries again"},
		{legoacme.ProblemDetails{Type: transport.NotProblem, HTTPStatus: 404, Detail: `"404 page not found"`}, "ca-error", true, `to the order: "404 page not found"`, "proxy"},
		{legoacme.ProblemDetails{Type: acme("rateLimited"), HTTPStatus: 429, Detail: "too many"}, "rate-limited", true, "too many", "try again in 1m0s"},
		{legoacme.ProblemDetails{HTTPStatus: 429}, "rate-limited", true, "", "try again in 1m0s"},
		{legoacme.ProblemDetails{HTTPStatus: 403, Detail: "no"}, "ca-refused", false, "to the order: no", "message of the CA"},
	} {
		tt.problem.Method = "POST"
		e := explainProblem("order", "ca.example", &tt.problem, time.Minute)
		if e.Kind() != tt.kind || e.Temporary() != tt.temporary || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || e.Wait() != time.Minute {
			t.Errorf("%+v: %v (%s, temporary %v), hint %s", tt.problem, e, e.Kind(), e.Temporary(), e.Hint())
		}
		if strings.Contains(e.Error(), "urn:") || strings.Contains(e.Error(), "()") {
			t.Errorf("%v is not for people", e)
		}
		if e.ChargedToCA() != (tt.kind == "rate-limited") {
			t.Errorf("%v: charged %v", e, e.ChargedToCA())
		}
	}
}

func TestExplainNetwork(t *testing.T) {
	fromClient := func(err error) error { return &url.Error{Op: "Post", URL: "https://ca.example/o", Err: err} }
	now := time.Now()
	for _, tt := range []struct {
		err       error
		kind      string
		temporary bool
		says      string
		hint      string
	}{
		{fromClient(&net.OpError{Op: "dial", Err: errors.New("connection refused")}), "ca-unreachable", true, "cannot be reached: dial: connection refused", "curl"},
		{fromClient(&net.DNSError{Err: "no such host", Name: "ca.example"}), "ca-unreachable", true, "no such host", "curl"},
		{fromClient(io.EOF), "ca-unreachable", true, "EOF", "curl"},
		{fromClient(fmt.Errorf("no complete answer within 45s: %w", context.DeadlineExceeded)), "ca-unreachable", true, "within 45s", "curl"},
		{fromClient(x509.UnknownAuthorityError{}), "tls", false, "does not trust", "acme.ca_file"},
		{fromClient(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "ca.example"}}), "tls", false, "ca.example", "acme.directory"},
		{fromClient(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), "tls", false, "handshake", "acme.directory"},
		{fromClient(x509.CertificateInvalidError{Cert: &x509.Certificate{NotAfter: now}, Reason: x509.Expired}), "clock", true, "not valid at this host's time", "timedatectl"},
		{fromClient(transport.NotACME("the CA redirects to %q", "https://evil/")), "ca-error", true, `not ACME, at the order: the CA redirects to "https://evil/"`, "proxy"},
		{fromClient(transport.NotACME("HTTPS is required, but this is %q", "http://ca.example/o")), "ca-error", true, "HTTPS is required", "acme.directory"},
		{fromClient(transport.ErrBudget), "ca-error", true, "circles", "curl"},
		{errors.New("the CA's answer cannot be understood (nil)"), "ca-error", true, "not ACME, at the order: the CA's answer", "proxy"},
	} {
		e := explainNetwork("order", "ca.example", "https://ca.example/dir", tt.err)
		if e.Kind() != tt.kind || e.Temporary() != tt.temporary || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || !strings.Contains(e.Error(), "ca.example") {
			t.Errorf("%v: %v (%s, temporary %v), hint %s", tt.err, e, e.Kind(), e.Temporary(), e.Hint())
		}
		if strings.Count(e.Error(), "not ACME") > 1 {
			t.Errorf("%v says it twice", e)
		}
	}
}

// FuzzExplain: whatever a problem document says, it becomes an error for people.
func FuzzExplain(f *testing.F) {
	f.Add(400, "urn:ietf:params:acme:error:malformed", "no\x1b[31m", "mx.example.org", "not yours")
	f.Add(429, "", "", "", "\u202e")
	f.Add(503, transport.NotProblem, strings.Repeat("x", 5000), "", "")
	f.Fuzz(func(t *testing.T, status int, kind, text, name, sub string) {
		problem := &legoacme.ProblemDetails{HTTPStatus: 400 + (status&0x7fffffff)%200, Type: kind, Detail: text,
			SubProblems: []legoacme.SubProblem{{Identifier: legoacme.Identifier{Value: name}, Detail: sub}}}
		e := explainProblem("order", "ca.example", problem, 0)
		if len(e.Message) > 2000 || len(e.NextStep) > 2000 || // the record keeps 2 KiB
			!utf8.ValidString(e.Message) || e.NextStep == "" || e.Kind() == "" {
			t.Errorf("%+q, hint %q, kind %q", e.Message, e.NextStep, e.Kind())
		}
		if strings.ContainsFunc(e.Message, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a control character in %+q", e.Message)
		}
	})
}

// TestPages: a page on which a person can do something is in message and hint, whole.
func TestPages(t *testing.T) {
	page := "https://portal.ca.example/unpause?jwt=" + strings.Repeat("eyJhbGciOi", 45)
	paused := "Your account is temporarily prevented from requesting certificates for mx.example.org and possibly others. Please visit: " + page
	for _, tt := range []struct {
		kind, detail, instance string
		wait                   time.Duration
		message, hint          string
	}{
		{"rateLimited", paused, "", 0, page, "open " + page + " and"},
		{"rateLimited", paused, "", time.Hour, page, "try again in 1h0m0s, and names a page: if waiting does not help, open " + page},
		{"rateLimited", "too many", "", time.Hour, "too many", "try again in 1h0m0s; mxcert"},
		{"rejectedIdentifier", paused, "", 0, page, "`domains` with what you own; the CA names a page: " + page},
		{"rateLimited", strings.Repeat("names ", 60) + page, "", 0, page, "open " + page},
		{"rateLimited", "too many", "", 0, "too many", "wait; "},
		{"userActionRequired", "the terms have changed", "https://ca.example/terms?a=b", 0, "changed", "open https://ca.example/terms?a=b and accept"},
		{"userActionRequired", "the terms have changed", "", 0, "changed", "as the message says"},
		{"unauthorized", paused, "", 0, page, "account"},
	} {
		problem := &legoacme.ProblemDetails{Type: prefix + tt.kind, HTTPStatus: 429, Detail: tt.detail, Instance: tt.instance, Method: "POST"}
		if tt.kind != "rateLimited" {
			problem.HTTPStatus = 403
		}
		e := explainProblem("order", "ca.example", problem, tt.wait)
		if !strings.Contains(e.Message, tt.message) || !strings.Contains(e.NextStep, tt.hint) {
			t.Errorf("%s: %s\n→ %s", tt.kind, e.Message, e.NextStep)
		}
	}
}

// The CA's own words include those of subproblems (RFC 8555 section 6.7.1).
func TestSaid(t *testing.T) {
	problem := &legoacme.ProblemDetails{Detail: "some names", SubProblems: []legoacme.SubProblem{{Identifier: legoacme.Identifier{Value: "mx.example.org"}, Detail: "d"}}}
	if got := Said(fmt.Errorf("wrapped: %w", problem)); got != "some names; mx.example.org: d" {
		t.Errorf("in words: %q", got)
	}
	if got := Said(errors.New("broken\npipe")); got != "broken pipe" {
		t.Errorf("another error: %q", got)
	}
}

// TestPanicsInCalls: what panics in a parser of lego's is an error that is fit for messages.
func TestPanicsInCalls(t *testing.T) {
	s := &Session{Operation: transport.New(transport.Settings{Directory: "https://ca.example/dir"}).Begin(t.Context(), 1)}
	_, err := Call(s, func() (int, error) { panic("odd answer\x1b[31m") })
	if err == nil || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "odd answer") {
		t.Errorf("in a call: %v", err)
	}
}

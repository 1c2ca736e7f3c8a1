package acme_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/schedule"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// blames lists which names an error is about, with ! behind those that were denied.
func blames(err error, names ...string) (list []string) {
	for _, e := range acme.NameErrors(err, names) {
		if e.Denied {
			e.Name += "!"
		}
		list = append(list, e.Name)
	}
	slices.Sort(list)
	return list
}

// Whom an order's failure is about: at the CA, at the name server that takes updates, and at those that are asked for the records.
func TestFailuresOfSingleNames(t *testing.T) {
	t.Parallel()
	const mx, other, third = "mx.example.org", "mx.example.com", "*.mail.example.com"
	for _, tt := range []struct {
		what   string
		lab    lab.Options
		fault  func(*world)
		broken string // what is in the error
		want   []string
	}{
		{"the CA refuses a name", lab.Options{CA: ca.Options{Blocked: []string{other}}}, nil, "rejectedIdentifier", []string{other + "!"}},
		{"the server refuses a zone", lab.Options{}, func(w *world) {
			_ = w.World.AddKey(lab.KeyName, "hmac-sha256.", w.Secret(), lab.Zone)
		}, "REFUSED", []string{third + "!", other + "!"}},
		{"the server refuses everything", lab.Options{}, func(w *world) {
			w.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused})
		}, "REFUSED", []string{third + "!", other + "!", mx + "!"}},
		{"the server has a fault", lab.Options{}, func(w *world) {
			w.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeServerFailure})
		}, "SERVFAIL", nil},
		{"a record is not served", lab.Options{}, func(w *world) { hide(w, "_acme-challenge.mx.example.com.") }, "not visible", []string{other}},
		{"the CA finds no record", lab.Options{}, func(w *world) {
			w.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
				if q := request.Question[0]; q.Qtype == dns.TypeTXT && strings.HasSuffix(q.Name, ".example.com.") && request.RecursionDesired {
					reply.Answer = nil
				}
				return reply
			}})
		}, "could not verify", []string{third + "!", other + "!"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.lab)
			if tt.fault != nil {
				tt.fault(w)
			}
			names := []string{mx, other, third}
			_, err := w.issue(t.Context(), func(r *acme.Request) {
				r.Names, r.Optional, r.Patience = names, names[1:], time.Second
			})
			if err == nil || !strings.Contains(err.Error(), tt.broken) {
				t.Fatalf("the error is %v", err)
			}
			got := blames(err, names...)
			if tt.what == "the CA finds no record" && slices.Equal(got, tt.want[:1]) || tt.what == "the CA finds no record" && slices.Equal(got, tt.want[1:]) {
				return // the CA gives up the order at the first
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("it is about %v, want %v: %v", got, tt.want, err)
			}
			if left := w.World.Challenges(); len(left) > 0 {
				t.Errorf("records remain: %v", left)
			}
		})
	}
}

// hide makes the primary name server, as an authority, not show a record.
func hide(w *world, name string) {
	w.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == name && request.Question[0].Qtype == dns.TypeTXT {
			reply.Answer = nil
		}
		return reply
	}})
}

// Which names a CA's words mean. What it does not say is not guessed.
func TestNamesInProblems(t *testing.T) {
	t.Parallel()
	const a, b = "mx.a.example", "*.b.example"
	id := func(name string) legoacme.Identifier { return legoacme.Identifier{Type: "dns", Value: name} }
	problem := func(kind, detail string, subs ...legoacme.SubProblem) *acme.Error {
		kind = "urn:ietf:params:acme:error:" + kind
		return &acme.Error{ErrKind: "ca-refused", Cause: &legoacme.ProblemDetails{Type: kind, HTTPStatus: 400, Detail: detail, SubProblems: subs}}
	}
	caa, lookup := legoacme.SubProblem{Type: "urn:ietf:params:acme:error:caa", Identifier: id("MX.a.example")}, legoacme.SubProblem{Type: "urn:ietf:params:acme:error:dns", Identifier: id("b.example")}
	for _, tt := range []struct {
		what string
		err  error
		want []string
	}{
		{"subproblems", problem("compound", "several", caa, lookup), []string{b, a + "!"}},
		{"a subproblem about something else", problem("compound", "several", caa, legoacme.SubProblem{Type: "caa", Identifier: id("c.example")}), nil},
		{"the text of Boulder", problem("rejectedIdentifier", `Invalid identifiers requested :: Cannot issue for "mx.a.example": forbidden by policy`), []string{a + "!"}},
		{"a name inside another", problem("rejectedIdentifier", `Cannot issue for "smtp-mx.a.example"`), nil},
		{"no name", problem("rejectedIdentifier", "policy"), nil},
		{"another type that mentions a name", problem("unauthorized", "mx.a.example"), nil},
		{"a limit", &acme.Error{ErrKind: "rate-limited", Cause: &legoacme.ProblemDetails{Type: "urn:ietf:params:acme:error:rateLimited", Detail: "too many certificates for mx.a.example"}}, nil},
		{"a fault of the CA", &acme.Error{ErrKind: "ca-error", Cause: &legoacme.ProblemDetails{Type: "urn:ietf:params:acme:error:caa", Detail: "mx.a.example"}}, nil},
		{"proofs that failed", &acme.Error{ErrKind: "challenge", Unproven: []string{a, b}, Unheard: []string{b}}, []string{b, a + "!"}},
		{"a hold", &schedule.Held{}, nil},
		{"one CA denies, the other is down", &acme.Error{ErrKind: "ca-refused", Cause: errors.Join(problem("rejectedIdentifier", a), &acme.Error{ErrKind: "ca-unreachable"})}, []string{a}},
		{"one CA denies, the other is not asked", &acme.Error{ErrKind: "ca-refused", Cause: errors.Join(problem("rejectedIdentifier", a), &schedule.Held{})}, []string{a + "!"}},
		{"two CAs deny", &acme.Error{ErrKind: "ca-refused", Cause: errors.Join(problem("rejectedIdentifier", a), problem("caa", a))}, []string{a + "!"}},
		{"one CA is down, then DNS fails", &acme.Error{ErrKind: "ca-unreachable", Cause: errors.Join(&acme.Error{ErrKind: "ca-unreachable"}, &acme.NameError{Name: b, Denied: true, Cause: errors.New("refused")})}, []string{b + "!"}},
		{"wrapped and joined", fmt.Errorf("x: %w", errors.Join(&acme.NameError{Name: a, Denied: true, Cause: errors.New("1")}, &acme.NameError{Name: a, Cause: errors.New("2")})), []string{a}},
	} {
		if got := blames(tt.err, a, b); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

// Each name whose proof failed counts once, in whichever way the error names it.
func TestFailedProofsAreNoted(t *testing.T) {
	t.Parallel()
	var ledger schedule.Ledger
	acme.NoteFailures(&ledger, &acme.Error{Identifier: "a.example", Unproven: []string{"a.example", "*.a.example", "b.example"}})
	acme.NoteFailures(&ledger, &acme.Error{Identifier: "c.example"})
	acme.NoteFailures(&ledger, &acme.Error{})
	var names []string
	for _, f := range ledger.Failures {
		names = append(names, f.Name)
	}
	if want := []string{"a.example", "b.example", "c.example"}; !slices.Equal(names, want) {
		t.Errorf("noted: %v, want %v", names, want)
	}
}

package dnsprovider_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// texts asks a server for the TXT records at a name.
func texts(t *testing.T, s *nameserver.Server, name string) (values []string) {
	t.Helper()
	answer, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeTXT), s.Address())
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			values = append(values, strings.Join(txt.Txt, ""))
		}
	}
	return values
}

// TestRehearse: a record is made for each name, seen, and removed; the challenge of an order at the same name stays.
func TestRehearse(t *testing.T) {
	t.Parallel()
	_, dns := newWorld(t)
	resolver := resolve.New([]string{dns.Address()})
	solver := newSolver(t, "rfc2136", environ(dns.Address()))
	order := dnsprovider.Challenges(t.Context(), resolver, []string{"mx.example.org"})
	order[0].Value = "challenge"
	if err := solver.Present(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	var said []string
	if err := dnsprovider.Rehearse(t.Context(), solver, resolver, []string{"mx.example.org", "*.example.com"}, resolve.All, 10*time.Second, func(text string) { said = append(said, text) }); err != nil {
		t.Fatal(err)
	}
	if len(said) < 3 || said[0] != "created a test record at _acme-challenge.mx.example.org" || said[len(said)-1] != "the test records are removed" {
		t.Errorf("progress %q", said)
	}
	if got := texts(t, dns, "_acme-challenge.mx.example.org."); !slices.Equal(got, []string{"challenge"}) {
		t.Errorf("left: %q", got)
	}
	if got := texts(t, dns, "_acme-challenge.example.com."); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// TestRehearseFails: the reason is the provider's or that of DNS, without the secret; nothing is left.
func TestRehearseFails(t *testing.T) {
	t.Parallel()
	_, dns := newWorld(t)
	resolver := resolve.New([]string{dns.Address()})
	run := func(env map[string]string, require resolve.Require, names ...string) error {
		err := dnsprovider.Rehearse(t.Context(), newSolver(t, "rfc2136", env), resolver, names, require, 500*time.Millisecond, nil)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v: %v", names, err)
		}
		return err
	}
	wrong := environ(dns.Address(), "TSIG_SECRET", strings.Repeat("A", 43)+"=")
	if e, ok := errors.AsType[*dnsprovider.Error](run(wrong, resolve.All, "mx.example.org")); !ok || e.Hint() == "" {
		t.Errorf("a wrong key: %v", e)
	}
	if err := run(environ(dns.Address()), resolve.All, "mx.nowhere.invalid"); err != nil && !strings.Contains(err.Error(), "nowhere.invalid") {
		t.Errorf("a name in no zone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dnsprovider.Rehearse(ctx, newSolver(t, "rfc2136", environ(dns.Address())), resolver, []string{"mx.example.org"}, resolve.All, time.Second, nil); err == nil {
		t.Error("an interrupted test succeeds")
	}
	if got := texts(t, dns, "_acme-challenge.mx.example.org."); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

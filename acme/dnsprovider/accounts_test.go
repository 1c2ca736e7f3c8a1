package dnsprovider_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// noted is a provider that notes what it is asked for, and may fail.
type noted struct {
	calls []string
	err   error
}

func (n *noted) Present(_ context.Context, records []dnsprovider.TXT) error {
	for _, r := range records {
		n.calls = append(n.calls, "present "+r.Domain)
	}
	return n.err
}

func (n *noted) CleanUp(_ context.Context, records []dnsprovider.TXT) error {
	for _, r := range records {
		n.calls = append(n.calls, "clean up "+r.Domain)
	}
	return n.err
}

func accountOf(zone, provider string, solver dnsprovider.Solver) dnsprovider.Account {
	return dnsprovider.NewAccount(zone, provider, func() (dnsprovider.Solver, error) { return solver, nil })
}

func recordAt(name string) dnsprovider.TXT {
	domain := strings.TrimSuffix(strings.TrimPrefix(name, "_acme-challenge."), ".")
	return dnsprovider.TXT{Place: resolve.Place{Name: name, Zone: "example.net."}, Domain: domain}
}

// The longest zone at or above the record's name decides.
func TestAccountOfAPlace(t *testing.T) {
	t.Parallel()
	all := dnsprovider.Accounts{accountOf("example.net", "a", nil), accountOf("", "rest", nil), accountOf("dev.example.net", "b", nil), accountOf("_acme-challenge.mx.dev.example.net", "c", nil)}
	for name, want := range map[string]string{
		"_acme-challenge.mx.example.net.": "a", "_acme-challenge.example.net.": "a", "example.net.": "a", "_ACME-Challenge.MX.Example.NET.": "a",
		"_acme-challenge.dev.example.net.": "b", "x.y.dev.example.net.": "b", "_acme-challenge.mx.dev.example.net.": "c",
		"_acme-challenge.notexample.net.": "rest", "_acme-challenge.example.org.": "rest", "net.": "rest",
	} {
		if got, found := all.Of(resolve.Place{Name: name}); !found || got.Provider != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	if got, found := slices.Delete(slices.Clone(all), 1, 2).Of(resolve.Place{Name: "_acme-challenge.example.org."}); found {
		t.Errorf("no account for other names: %v", got)
	}
}

// Records go to the accounts of their places, in the order of the records; an account without any is not set up.
func TestDivide(t *testing.T) {
	t.Parallel()
	net, rest := &noted{}, &noted{}
	all := dnsprovider.Accounts{
		dnsprovider.NewAccount("example.com", "unused", func() (dnsprovider.Solver, error) { return nil, errors.New("set up") }),
		accountOf("", "rest", rest), accountOf("example.net", "net", net),
	}
	shares, err := all.Divide([]dnsprovider.TXT{recordAt("_acme-challenge.a.example.net."), recordAt("_acme-challenge.b.example.org."), recordAt("_acme-challenge.c.example.net.")})
	if err != nil || len(shares) != 2 || shares[0].String() != "net (dns.zones: example.net)" || shares[1].String() != "rest" {
		t.Fatalf("%v, %v", shares, err)
	}
	for _, share := range shares {
		if err := errors.Join(share.Present(t.Context()), share.CleanUp(t.Context())); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(net.calls, []string{"present a.example.net", "present c.example.net", "clean up a.example.net", "clean up c.example.net"}) || len(rest.calls) != 2 {
		t.Errorf("%q, %q", net.calls, rest.calls)
	}
	shares, err = all[:1].Divide([]dnsprovider.TXT{recordAt("_acme-challenge.a.example.com."), recordAt("_acme-challenge.b.example.net."), recordAt("_acme-challenge.b.example.net.")})
	e, ok := errors.AsType[*dnsprovider.Error](err)
	if len(shares) != 1 || !ok || e.Error() != "no DNS account for _acme-challenge.b.example.net (zone example.net): in none of dns.zones, and there is no dns.provider for the other names" || e.Kind() != "dns-config" {
		t.Errorf("%v, %v", shares, err)
	}
	if _, err := shares[0].Solver(); err == nil || err.Error() != "set up" {
		t.Errorf("%v", err)
	}
}

// Every error of a zone's account names the zone, and its hint the section of the configuration.
func TestErrorsNameTheAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ zone, text, hint string }{
		{"", "DNS provider exec: cannot set up EXEC_PATH: it is missing", "set dns.env.EXEC_PATH to the program to run"},
		{"example.net", "DNS provider exec (dns.zones: example.net): cannot set up EXEC_PATH: it is missing", "set dns.zones[example.net].env.EXEC_PATH to the program to run"},
	} {
		account := dnsprovider.NewAccount(tt.zone, "exec", func() (dnsprovider.Solver, error) { return dnsprovider.New("exec", nil, resolve.New(nil)) })
		_, err := account.Solver()
		if e, ok := errors.AsType[*dnsprovider.Error](err); !ok || e.Error() != tt.text || e.Hint() != tt.hint {
			t.Errorf("%q: %v, hint %v", tt.zone, err, e)
		}
	}
	joined := &noted{err: errors.Join(&dnsprovider.Error{Provider: "x", Op: "remove", What: "one"}, errors.Join(&dnsprovider.Error{Provider: "x", Op: "remove", What: "two"}), context.Canceled)}
	err := dnsprovider.Share{Account: accountOf("example.net", "x", joined), Records: []dnsprovider.TXT{recordAt("a.example.net.")}}.CleanUp(t.Context())
	if strings.Count(err.Error(), "(dns.zones: example.net)") != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What is needed before an order is asked of every account that has records, and the records only if that matters.
func TestPrepareAccounts(t *testing.T) {
	t.Parallel()
	records := func() []dnsprovider.TXT { return []dnsprovider.TXT{recordAt("_acme-challenge.a.example.net.")} }
	unasked := func() []dnsprovider.TXT { t.Error("the records are asked for"); return nil }
	broken := dnsprovider.NewAccount("", "x", func() (dnsprovider.Solver, error) { return nil, errors.New("set up") })
	if err := (dnsprovider.Accounts{accountOf("", "x", &noted{})}).Prepare(t.Context(), unasked); err != nil {
		t.Error(err)
	}
	if err := (dnsprovider.Accounts{broken}).Prepare(t.Context(), unasked); err == nil || err.Error() != "set up" {
		t.Errorf("%v", err)
	}
	if err := (dnsprovider.Accounts{broken, accountOf("example.net", "x", &noted{})}).Prepare(t.Context(), records); err != nil {
		t.Errorf("an account that is not needed: %v", err)
	}
	if err := (dnsprovider.Accounts{broken, accountOf("example.com", "x", &noted{})}).Prepare(t.Context(), records); err == nil {
		t.Error("an account that is needed cannot be set up")
	}
}

package dnsprovider

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-acme/lego/v4/challenge"

	"mxcert/acme/resolve"
)

// newForgetful is a provider that needs its memory, as it has the API's identifiers of what it made.
func newForgetful(t *testing.T, act func(call string) error) (Solver, *fake) {
	t.Helper()
	f := &fake{act: act}
	s, err := newLego("fake", Description{Forgetful: true}, func() (challenge.Provider, error) { return f, nil }, nil, resolve.New([]string{"127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// TestForgotten: a record that an earlier process made is not tried, because some of lego's providers would say that all
// went well, and one would remove another record.
func TestForgotten(t *testing.T) {
	s, f := newForgetful(t, nil)
	old, fresh := at("_acme-challenge.old."), at("_acme-challenge.fresh.")
	old.Value = "the value"
	if err := s.Present(t.Context(), []TXT{fresh}); err != nil {
		t.Fatal(err)
	}
	err := s.CleanUp(t.Context(), []TXT{old, fresh})
	records, rest := Forgotten(fmt.Errorf("journal: %w", err)) // wrapped once on its way
	if len(records) != 1 || records[0] != old || rest != nil {
		t.Errorf("forgotten: %v, rest %v", records, rest)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind() != "dns-update" || e.Temporary() || !strings.Contains(e.Error(), "_acme-challenge.old: ") || strings.Contains(e.Error(), "the value") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"by hand", "_acme-challenge.old,", `"the value"`, "until it is gone"} {
		if !strings.Contains(e.Hint(), want) {
			t.Errorf("the hint lacks %s: %s", want, e.Hint())
		}
	}
	if got := strings.Join(f.calls, ", "); got != "present fresh t k, cleanup fresh t k" {
		t.Errorf("calls: %s", got)
	}
	if err := s.CleanUp(t.Context(), []TXT{fresh}); err == nil {
		t.Error("it is told that a record which it has removed and forgotten is gone")
	}
}

// TestForgottenAfterFailures: what Present did not come to needs no removal; what it failed at may be there.
func TestForgottenAfterFailures(t *testing.T) {
	s, f := newForgetful(t, func(call string) error {
		if call == "present a t k" {
			return nil
		}
		return errors.New("no")
	})
	records := []TXT{at("_acme-challenge.a."), at("_acme-challenge.b."), at("_acme-challenge.c.")}
	if err := s.Present(t.Context(), records); err == nil {
		t.Error("it went on")
	}
	lost, rest := Forgotten(s.CleanUp(t.Context(), records))
	if len(lost) != 1 || lost[0] != records[1] || rest == nil || !strings.Contains(rest.Error(), "challenge.a: no") {
		t.Errorf("forgotten %v, rest %v", lost, rest)
	}
	// a is tried twice, because no later process can remove it; b once, because nothing will help.
	if got := strings.Join(f.calls, ", "); got != "present a t k, present b t k, cleanup a t k, cleanup a t k, cleanup b t k" {
		t.Errorf("calls: %s", got)
	}
}

// TestOthersAreNotForgotten: a provider that finds records by their value is asked for old ones too.
func TestOthersAreNotForgotten(t *testing.T) {
	s, f := newFake(t, nil, func(string) error { return errors.New("no") })
	lost, rest := Forgotten(s.CleanUp(t.Context(), []TXT{at("_acme-challenge.a."), at("_acme-challenge.b.")}))
	if len(lost) != 0 || rest == nil || len(f.calls) != 2 {
		t.Errorf("forgotten %v, rest %v, calls %q", lost, rest, f.calls)
	}
	for _, err := range []error{nil, errors.New("x"), errors.Join(errors.New("x"), errors.New("y"))} {
		if lost, rest := Forgotten(err); len(lost) != 0 || (rest == nil) != (err == nil) || (err != nil && rest.Error() != err.Error()) {
			t.Errorf("%v: %v, %v", err, lost, rest)
		}
	}
}

// TestCloudflareForgets: the real one says that it cannot before it asks the network.
func TestCloudflareForgets(t *testing.T) {
	s, err := New("cloudflare", map[string]string{"CF_DNS_API_TOKEN": "x", "CLOUDFLARE_BASE_URL": "http://127.0.0.1:1"}, resolve.New([]string{"127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	if lost, rest := Forgotten(s.CleanUp(t.Context(), []TXT{at("_acme-challenge.a.")})); len(lost) != 1 || rest != nil {
		t.Errorf("%v, %v", lost, rest)
	}
}

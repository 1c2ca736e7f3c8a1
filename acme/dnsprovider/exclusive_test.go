package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/challenge"

	"mxcert/acme/resolve"
)

// single is a provider that holds one record.
type single struct {
	fake
	interval time.Duration
}

func (s *single) Sequential() time.Duration { return s.interval }

func newSolvers(t *testing.T, n int, construct constructor) (solvers []Solver) {
	t.Helper()
	for range n {
		s, err := newLego(strings.ToLower(t.Name()), Description{}, construct, nil, resolve.New([]string{"127.0.0.1:1"}))
		if err != nil {
			t.Fatal(err)
		}
		solvers = append(solvers, s)
	}
	return solvers
}

// TestOneOrderAtATime: between Present and CleanUp of one order, no other writes to a provider that holds one record.
func TestOneOrderAtATime(t *testing.T) {
	provider := &single{} // the same outside, whoever calls: it panics at two calls at once
	held := ""
	provider.act = func(call string) error {
		op, domain, _ := strings.Cut(call, " ")
		switch {
		case op == "present" && held != "":
			return fmt.Errorf("%s replaces %s", domain, held)
		case op == "present":
			held = domain
		case held != domain:
			return fmt.Errorf("%s is removed by %s", held, domain)
		default:
			held = ""
		}
		return nil
	}
	var wait sync.WaitGroup
	for i, s := range newSolvers(t, 8, func() (challenge.Provider, error) { return provider, nil }) {
		if _, yes := Sequential(s); !yes {
			t.Fatal("it is not sequential")
		}
		r := at(fmt.Sprintf("_acme-challenge.n%d.", i))
		r.Zone = r.Name // no other lock helps
		wait.Go(func() {
			for range 5 {
				if err := errors.Join(s.Present(t.Context(), []TXT{r}), s.CleanUp(t.Context(), []TXT{r})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if len(provider.calls) != 80 {
		t.Errorf("%d calls", len(provider.calls))
	}
}

// TestWaitingForATurn ends with the context, and what was not made is not removed. The journal's clean-up waits too.
func TestWaitingForATurn(t *testing.T) {
	provider := &single{}
	solvers := newSolvers(t, 3, func() (challenge.Provider, error) { return provider, nil })
	a, b, old := at("_acme-challenge.a."), at("_acme-challenge.b."), at("_acme-challenge.old.")
	if err := solvers[0].Present(t.Context(), []TXT{a}); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := solvers[1].Present(impatient, []TXT{b}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second order: %v", err)
	}
	if err := solvers[1].CleanUp(t.Context(), []TXT{b}); err != nil {
		t.Errorf("there is nothing to clean up: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- solvers[2].CleanUp(t.Context(), []TXT{old}) }()
	select {
	case err := <-done:
		t.Errorf("the journal did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := errors.Join(solvers[0].CleanUp(t.Context(), []TXT{a}), <-done); err != nil {
		t.Error(err)
	}
	if got := strings.Join(provider.calls, ", "); got != "present a t k, cleanup a t k, cleanup old t k" {
		t.Errorf("calls: %s", got)
	}
}

// TestHangingCallKeepsTheTurn: an order that was given up still has a call in the provider. Nobody else may begin.
func TestHangingCallKeepsTheTurn(t *testing.T) {
	provider, release := &single{}, make(chan struct{})
	impatient, cancel := context.WithCancel(t.Context())
	defer cancel()
	provider.act = func(call string) error {
		if call == "present a t k" {
			cancel()
			<-release
		}
		return nil
	}
	solvers := newSolvers(t, 2, func() (challenge.Provider, error) { return provider, nil })
	a, b := at("_acme-challenge.a."), at("_acme-challenge.b.")
	b.Zone = "example.net."
	if err := solvers[0].Present(impatient, []TXT{a}); !errors.Is(err, context.Canceled) {
		t.Errorf("it hangs: %v", err)
	}
	if err := solvers[0].CleanUp(impatient, []TXT{a}); !errors.Is(err, context.Canceled) {
		t.Errorf("and still: %v", err)
	}
	again, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := solvers[1].Present(again, []TXT{b}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next order: %v", err)
	}
	close(release)
	if err := solvers[1].Present(t.Context(), []TXT{b}); err != nil {
		t.Error(err)
	}
	if err := solvers[1].CleanUp(t.Context(), []TXT{b}); err != nil {
		t.Error(err)
	}
}

// TestSilentProvider is given up after a while, and blamed.
func TestSilentProvider(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	solvers := newSolvers(t, 2, func() (challenge.Provider, error) {
		return &fake{act: func(string) error { <-release; return nil }}, nil
	})
	for i, says := range []string{"has not answered for 50ms", "still at work on earlier requests"} {
		solvers[i].(*lego).patience = 50 * time.Millisecond
		err := solvers[i].Present(t.Context(), []TXT{at("_acme-challenge.a.")})
		if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), says) || !e.Temporary() {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}

// TestOneChangeOfAZoneAtATime: two orders with the same provider change different zones together and one zone in turn,
// because a provider may read a zone and write back the whole.
func TestOneChangeOfAZoneAtATime(t *testing.T) {
	var inZone, inAll, most atomic.Int32
	both := make(chan struct{})
	construct := func() (challenge.Provider, error) {
		return &fake{act: func(call string) error {
			if strings.Contains(call, "other") {
				defer inAll.Add(-1)
				if inAll.Add(1) == 2 {
					close(both)
				}
				<-both // both orders are at work in zones of their own
				return nil
			}
			defer inZone.Add(-1)
			most.Store(max(most.Load(), inZone.Add(1)))
			time.Sleep(time.Millisecond)
			return nil
		}}, nil
	}
	var wait sync.WaitGroup
	for i, s := range newSolvers(t, 2, construct) {
		apart, same := at("_acme-challenge.other."), at("_acme-challenge.same.")
		apart.Zone = fmt.Sprint("zone", i, ".")
		wait.Go(func() {
			records := []TXT{apart}
			for range 20 {
				records = append(records, same)
			}
			if err := s.Present(t.Context(), records); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if most.Load() != 1 {
		t.Errorf("%d changes of a zone at once", most.Load())
	}
}

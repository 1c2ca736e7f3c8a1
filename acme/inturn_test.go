package acme_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// single is a provider that holds one record, and says so.
type single struct {
	dnsprovider.Solver
	pause   time.Duration
	lineage *state.Lineage
	refuse  string // the domain whose record it does not take

	mu      sync.Mutex
	held    string
	freed   time.Time
	faults  []string
	history []string
}

// take puts it before the provider of a request.
func (s *single) take(r *acme.Request) {
	s.Solver, _ = r.Accounts[0].Solver()
	r.Accounts = acme.Only("rfc2136", s)
}

func (s *single) Sequential() (time.Duration, bool) { return s.pause, true }

func (s *single) Present(ctx context.Context, records []dnsprovider.TXT) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(records) != 1 || s.held != "" {
		s.faults = append(s.faults, fmt.Sprintf("%d records are to be made while it holds %q", len(records), s.held))
		return errors.New("full")
	}
	if rest := s.pause - time.Since(s.freed); !s.freed.IsZero() && rest > 0 {
		s.faults = append(s.faults, fmt.Sprintf("%s too early", rest))
	}
	if entries, err := s.lineage.Journal(); err != nil || len(entries) != 1 || len(entries[0].Records) != 1 || entries[0].Records[0].Value != records[0].Value {
		s.faults = append(s.faults, fmt.Sprintf("the journal says %v, %v", entries, err))
	}
	s.history = append(s.history, records[0].Domain)
	s.held = records[0].Value
	if records[0].Domain == s.refuse {
		return errors.New("not this one")
	}
	return s.Solver.Present(ctx, records)
}

func (s *single) CleanUp(ctx context.Context, records []dnsprovider.TXT) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(records) != 1 || s.held != records[0].Value {
		s.faults = append(s.faults, fmt.Sprintf("%d records are to be removed while it holds %q", len(records), s.held))
	}
	s.held, s.freed = "", time.Now()
	return s.Solver.CleanUp(ctx, records)
}

// TestOneRecordAtATime: of a provider that holds one, a name is proven before the next is begun, and the CA has its verdict
// while the record is there.
func TestOneRecordAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Secondaries: 1})
	w.Names = []string{"example.org", "*.example.org", "mx.example.org"}
	w.register(t)
	w.CA.ResetRequests()
	solver := &single{pause: 60 * time.Millisecond, lineage: w.lineage(t)}
	progress := &tape{}
	issued := w.order(t, func(r *acme.Request) {
		solver.take(r)
		r.Progress = progress.say
	})
	if len(solver.faults) != 0 || len(solver.history) != 3 || len(issued.Bundle.Leaf().DNSNames) != 3 {
		t.Errorf("%q, in turn %q, certificate for %q", solver.faults, solver.history, issued.Bundle.Leaf().DNSNames)
	}
	if got := w.World.UpdateCount(lab.Zone); got != 6 {
		t.Errorf("%d updates", got)
	}
	var order []ca.Endpoint
	for _, r := range w.CA.Requests() {
		if r.Endpoint == ca.Challenge || r.Endpoint == ca.Order {
			order = append(order, r.Endpoint)
		}
	}
	if slices.Index(order, ca.Order) < 3 || w.CA.Count(ca.Challenge) != 3 || w.CA.Count(ca.Authz) < 6 {
		t.Errorf("%v", w.tally())
	}
	if !progress.has("1 TXT record made in example.org") || !progress.has("has seen 1 record") {
		t.Errorf("progress %q", progress.lines)
	}
	w.clean(t, "after success")
}

// TestOneRecordAtATimeFails: what is not proven ends the order and leaves nothing; the next run goes on with what is
// proven.
func TestOneRecordAtATimeFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.Names = []string{"a.example.org", "b.example.org", "mx.example.org"}
	solver := &single{lineage: w.lineage(t), refuse: "b.example.org"}
	use := solver.take
	if _, err := w.issue(t.Context(), use); err == nil || !strings.Contains(err.Error(), "not this one") || !w.stored(t) {
		t.Errorf("got %v", err)
	}
	w.clean(t, "after a failure")
	proven := slices.Index(solver.history, "b.example.org")
	solver.refuse, solver.history = "", nil
	w.order(t, use)
	if len(solver.history) != 3-proven || len(solver.faults) != 0 || w.orders() != 1 {
		t.Errorf("%d were proven, then %q; %q", proven, solver.history, solver.faults)
	}
	w.clean(t, "at the end")
}

// TestOneRecordAtATimeStops in the pause between two names.
func TestOneRecordAtATimeStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	solver := &single{pause: time.Hour, lineage: w.lineage(t)}
	_, err := w.issue(ctx, func(r *acme.Request) {
		solver.take(r)
		r.Progress = func(stage, _ string) {
			if stage == "validation" {
				time.AfterFunc(200*time.Millisecond, cancel)
			}
		}
	})
	if !errors.Is(err, context.Canceled) || len(solver.history) != 1 || !w.stored(t) {
		t.Errorf("%v, made %q", err, solver.history)
	}
	w.clean(t, "after the stop")
}

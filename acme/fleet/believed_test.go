package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// What strangers write below a certificate is not kept: they must not fill the memory of this host.
func TestForeignKeysAreNotKept(t *testing.T) {
	t.Parallel()
	m := &Member{values: map[string]state.Versioned{}, interest: map[string]bool{}, loaded: map[string]bool{}}
	const name = "mx.example"
	for _, place := range []string{bundlePlace(name, bundle.RSA2048), nextPlace(name, bundle.EC256), tlsaPlace(name)} {
		if !m.learnValue(name, state.Versioned{Key: place, Value: []byte("{}"), Revision: 7}) {
			t.Errorf("%s is not kept", place)
		}
	}
	for i := range 1000 {
		for _, form := range []string{"%d", "foreign/%d", "ec256/%d", "next/%d", "next/ec256/%d"} {
			m.learnValue(name, state.Versioned{Key: "certificate/" + name + "/" + fmt.Sprintf(form, i), Value: []byte("x"), Revision: 8})
		}
	}
	if len(m.values) != 3 {
		t.Errorf("%d values are kept", len(m.values))
	}
}

// A trusted host may be broken, or taken over: what it says of itself fits on a line, and into the memory.
func TestWhatHostsSayIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("f", 100_000)
	d := Deployed{
		Wish: Wish{Keys: []bundle.KeyType{"\x1b[2J", bundle.EC256}}, Problem: "bad\x1b[2J\nOK: all is well " + long,
		Keys: map[string]Deployment{"ec256": {Serial: "0a"}, "\x1b[2J": {Serial: "0b"}, "rsa2048": {Serial: long}},
	}
	got := d.bounded()
	if len(got.Wish.Keys) != 1 || len(got.Keys) != 1 || got.Keys["ec256"].Serial != "0a" || len(d.Keys) != 3 {
		t.Errorf("%+v", got)
	}
	if len(got.Problem) > mostProblem+len("…") || strings.ContainsAny(got.Problem, "\x1b\n") || !strings.HasPrefix(got.Problem, "bad [2J OK") {
		t.Errorf("the problem is %.100q", got.Problem)
	}
	merged := Merged{By: map[string][]string{}}
	for _, name := range []string{"mx.example", "*.mx.example", "evil.example\x1b[2J", "MX.example", "a b", "", "*.", "*", long} {
		merged.add(name, "mx2", Wish{}, &merged.Names)
	}
	if strings.Join(merged.Names, " ") != "mx.example *.mx.example" {
		t.Errorf("%q", merged.Names)
	}
}

// Whoever listens hears of a fault when it begins and when it ends, and not when nothing has changed.
func TestFaultsAreTold(t *testing.T) {
	t.Parallel()
	told := 0
	m := &Member{faults: map[string]string{}, log: slog.New(slog.DiscardHandler)}
	m.onChange = func(names []string) {
		if told++; len(names) > 0 {
			t.Errorf("%q", names)
		}
		_ = m.Health() // the listener asks what is wrong
	}
	forged := refused(Forged, "tlsa", "a stranger has signed it")
	for i, step := range []struct {
		err  error
		told int
	}{{nil, 0}, {forged, 1}, {forged, 1}, {refused(Replayed, "tlsa", "it is old"), 2}, {nil, 3}, {nil, 3}} {
		m.fault("tlsa", step.err)
		if told != step.told {
			t.Errorf("after step %d the listener has heard %d times", i, told)
		}
	}
}

// The store knows best what to do about it: its advice reaches people.
func TestAdviceOfTheStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		says string
	}{
		{&state.Error{Op: "read", Path: "cluster", Err: &advised{state.ErrAway}}, "renew the client certificate"},
		{fmt.Errorf("%w: %w", state.ErrAway, &state.Error{Op: "read", Path: "cluster", Err: &advised{fs.ErrPermission}}), "renew the client certificate"},
		{refusal("correct fleet.name", "another fleet"), "correct fleet.name"},
		{fmt.Errorf("%w: %w", state.ErrAway, syscall.ENOSPC), "alarm disarm"},
		{fmt.Errorf("%w: %w", state.ErrAway, fs.ErrPermission), "the role"},
		{fmt.Errorf("%w: %w", state.ErrAway, context.DeadlineExceeded), "see that etcd runs"},
	} {
		if got := hintOf(tt.err); !strings.Contains(got, tt.says) {
			t.Errorf("%v: %q", tt.err, got)
		}
	}
}

type advised struct{ error }

func (*advised) Hint() string    { return "renew the client certificate" }
func (a *advised) Unwrap() error { return a.error }

// A disk of this host that is full, or may not be read, says nothing about the store: the host does not order alone because of it.
func TestAFullDiskIsNoReasonToOrderAlone(t *testing.T) {
	w := newWorld(t, 1)
	a := w.host(0, "", func(s *Settings) { s.Alone = true })
	_, err := a.Overview(t.Context())
	must(t, err)
	soon := Danger{NotAfter: time.Now().Add(time.Hour), Life: 90 * 24 * time.Hour, Serial: "01"}
	good := a.disk
	for _, cause := range []error{syscall.ENOSPC, fs.ErrPermission} {
		a.disk = badDisk{good, cause}
		if lead, err := a.Lead(t.Context(), "mx.example", soon); lead != nil || errors.As(err, new(*Held)) || !errors.Is(err, cause) {
			t.Errorf("%v: %v", cause, err)
		}
	}
	a.disk = good
	lead, err := a.Lead(t.Context(), "mx.example", soon)
	must(t, err)
	if lead.Alone {
		t.Error("it leads without the store")
	}
	lead.Release()
}

// badDisk is a disk that fails.
type badDisk struct {
	state.Store
	cause error
}

func (b badDisk) List(string) ([]string, error) { return nil, b.cause }

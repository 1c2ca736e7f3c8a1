package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A fault is something that happens to a fleet, until it is healed.
type fault struct {
	name string
	hurt func(ctx context.Context, w *town, pick *rand.Rand) (at string, heal func() error, err error)
}

// faults are all kinds. Each is healed by what a machine or an operator would do.
var faults = []fault{
	{"daemon killed", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h := w.anyHost(pick)
		return h.name, nothing, h.signal(ctx, "KILL")
	}},
	{"daemon stopped", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h := w.anyHost(pick)
		return h.name, func() error { return h.signal(ctx, "CONT") }, h.signal(ctx, "STOP")
	}},
	{"power of a host cut", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h := w.anyHost(pick)
		return h.name, nothing, w.powerCut(ctx, h)
	}},
	{"host alone", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h := w.anyHost(pick)
		return h.name, func() error { return w.pull(ctx, &h.plug, "up") }, w.pull(ctx, &h.plug, "down")
	}},
	{"host without etcd", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h := w.anyHost(pick)
		heal, err := w.cutAll(ctx, &h.plug, w.members)
		return h.name, heal, err
	}},
	{"host and member apart", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		h, m := w.anyHost(pick), w.anyMember(pick)
		return h.name + " and " + m.name, func() error { return w.mend(ctx, &h.plug, &m.plug) }, w.cut(ctx, &h.plug, &m.plug)
	}},
	{"member killed", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		m := w.anyMember(pick)
		m.kill()
		return m.name, func() error { return m.start(ctx, "existing") }, nil
	}},
	{"member stopped", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		m := w.anyMember(pick)
		return m.name, func() error { return m.freeze(false) }, m.freeze(true)
	}},
	{"member alone", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		m := w.anyMember(pick)
		return m.name, func() error { return w.pull(ctx, &m.plug, "up") }, w.pull(ctx, &m.plug, "down")
	}},
	{"quorum lost", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		first := pick.IntN(3)
		two := []*member{w.members[first], w.members[(first+1)%3]}
		for _, m := range two {
			m.kill()
		}
		return two[0].name + " and " + two[1].name, func() error { return errors.Join(two[0].start(ctx, "existing"), two[1].start(ctx, "existing")) }, nil
	}},
	{"disk of a member full", func(ctx context.Context, w *town, pick *rand.Rand) (string, func() error, error) {
		m := w.anyMember(pick)
		return m.name, func() error { return errors.Join(m.free(ctx), m.revive(ctx)) }, m.fill(ctx)
	}},
	{"revisions compacted", func(ctx context.Context, w *town, _ *rand.Rand) (string, func() error, error) {
		return "etcd", nothing, w.compact(ctx)
	}},
}

func nothing() error { return nil }

func (w *town) anyHost(pick *rand.Rand) *host     { return w.hosts[pick.IntN(len(w.hosts))] }
func (w *town) anyMember(pick *rand.Rand) *member { return w.members[pick.IntN(len(w.members))] }

// signal sends a signal to the daemon; one that has just been killed is not there for a moment.
func (h *host) signal(ctx context.Context, name string) error {
	return wait(ctx, 20*time.Second, func() error {
		_, err := h.Must(ctx, "systemctl", "kill", "--signal="+name, "--kill-whom=main", "mxcert")
		return err
	})
}

// powerCut kills all that runs on a host at once, and boots it again.
func (w *town) powerCut(ctx context.Context, h *host) error {
	h.wire.rest()
	err := h.Crash(ctx)
	if err == nil {
		err = w.connect(ctx, &h.plug)
	}
	if err == nil {
		h.wire.resume()
	}
	return err
}

// cutAll parts a host from members.
func (w *town) cutAll(ctx context.Context, p *plug, members []*member) (mend func() error, err error) {
	for _, m := range members {
		err = errors.Join(err, w.cut(ctx, p, &m.plug))
	}
	return func() (err error) {
		for _, m := range members {
			err = errors.Join(err, w.mend(ctx, p, &m.plug))
		}
		return err
	}, err
}

// compact makes the members forget all revisions but the last, so that who watches may have missed some.
func (w *town) compact(ctx context.Context) error {
	r, err := w.etcdctl(ctx, "get", "/none", "--write-out", "json")
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(r.Stdout, `"revision":`)
	revision, _, _ := strings.Cut(after, ",")
	r, err = w.etcdctl(ctx, "compact", revision)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("compact %q: %s%s", revision, r.Stdout, r.Stderr)
	}
	return err
}

// moments are when a fault comes: some time after something was begun, or after the recorder saw a step of an order.
var moments = []struct {
	name string
	step string // of the authority's resources
	at   time.Duration
}{
	{"at any time", "", 5 * time.Second},
	{"at the order", "order-plz", 300 * time.Millisecond},
	{"at the challenges", "order-plz", 4 * time.Second},
	{"at the finalization", "finalize-order", 1500 * time.Millisecond},
	{"at the deployment", "certZ", 1500 * time.Millisecond},
}

// saw waits until the recorder has seen a step since a moment; it may never come.
func (r *recorder) saw(ctx context.Context, step string, since time.Time) {
	_ = wait(ctx, 15*time.Second, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := len(r.requests) - 1; i >= 0 && r.requests[i].answered.After(since); i-- {
			if r.requests[i].what == step {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// number reads a number from the environment.
func number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// What hosts did to one certificate. Each holder of the lock reads the generation and writes the next one; between that, faults keep some of them
// away for so long that another one takes the lock. A write is good only if its holder is the last one that took the lock, and the generation is
// the next. So a history with two effective holders, or in which a generation goes back or is written twice, cannot be put in any order.

// took, wrote, swapped and read are what a host did; token is one taking of the lock.
type (
	took    struct{ token int }
	wrote   struct{ token, generation int }
	swapped struct{ from, to int }
	read    struct{}
)

// outcome is what a host was told.
type outcome struct {
	what       string // done, refused, unknown
	generation int    // that was read
}

// fleet is what is true at a moment.
type fleet struct{ token, generation int }

// rules is the sequential truth.
func rules() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return fleet{} },
		Step: func(before, input, output any) (bool, any) {
			now, told := before.(fleet), output.(outcome)
			switch did := input.(type) {
			case took:
				return true, fleet{did.token, now.generation}
			case wrote:
				good := now.token == did.token && now.generation+1 == did.generation
				return settle(now, told, good, true, fleet{now.token, did.generation})
			case swapped:
				good := now.generation == did.from
				return settle(now, told, good, !good, fleet{now.token, did.to})
			default:
				return now.generation == told.generation, now
			}
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%T%v %v", input, input, output) },
	}
}

// settle says whether a change could end as it did, and what is true then. What ended nobody knows how may come at any later time.
func settle(now fleet, told outcome, good, refusable bool, then fleet) (bool, any) {
	switch {
	case told.what == "refused":
		return refusable, now
	case told.what == "done":
		return good, then
	case good:
		return true, then
	}
	return true, now
}

// history is what happened to one key, in the order of calls.
type history struct {
	mu         sync.Mutex
	start      time.Time
	operations []porcupine.Operation
}

func (h *history) note(client int, input any, called time.Time, told outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ended := time.Since(h.start)
	if told.what == "unknown" {
		ended = 1 << 62
	}
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: input, Output: told,
		Call: int64(called.Sub(h.start)), Return: int64(ended)})
}

// told says how a change ended.
func told(err error) outcome {
	switch {
	case err == nil:
		return outcome{what: "done"}
	case errors.Is(err, state.ErrLocked), errors.Is(err, state.ErrChanged):
		return outcome{what: "refused"}
	}
	return outcome{what: "unknown"}
}

// game is one certificate, and the hosts that want it.
type game struct {
	t      *testing.T
	name   string
	faults int // holders that are to be kept away
	hosts  []*host
	locked *history // of what is written under a lock
	free   *history // of what is swapped without one

	tokens, written, suffered, refused atomic.Int64
	enough                             func() bool // beside the faults
	suffering                          sync.Mutex  // one at a time
}

// host is one of them, with its own lines to all members.
type host struct {
	*game
	id    int
	store *Store
	lines []*etcdtest.Line
}

func newGame(t *testing.T, cluster *etcdtest.Cluster, name string, faults int, unfenced bool) *game {
	t.Helper()
	g := &game{t: t, name: name, faults: faults, locked: &history{start: time.Now()}, free: &history{start: time.Now()}}
	settings := room(cluster)
	settings.Lease, settings.Patience = time.Second, time.Second
	for id := range 3 {
		h := &host{game: g, id: id}
		settings.Holder, settings.Endpoints = fmt.Sprint("mx", id), nil
		for _, m := range cluster.Members {
			line := m.Line()
			h.lines = append(h.lines, line)
			settings.Endpoints = append(settings.Endpoints, line.URL())
		}
		h.store = open(t, settings)
		h.store.unfenced = unfenced
		g.hosts = append(g.hosts, h)
	}
	return g
}

// play lets the hosts work until enough of them were kept away.
func (g *game) play(ctx context.Context) {
	var playing sync.WaitGroup
	for _, h := range g.hosts {
		playing.Go(func() {
			for ctx.Err() == nil && (g.suffered.Load() < int64(g.faults) || !g.enough()) {
				h.write(ctx)
				h.swap(ctx)
				sleep(ctx, rand.N(20*time.Millisecond))
			}
		})
	}
	playing.Wait()
	g.hosts[0].look(ctx, g.hosts[0].store, g.locked, "locked")
	g.hosts[0].look(ctx, g.hosts[0].store, g.free, "free")
}

// write takes the lock and writes the next generation.
func (h *host) write(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s := h.store.Holder().(*Store)
	defer func() { _ = s.Close() }()
	token, called := int(h.tokens.Add(1)), time.Now()
	unlock, err := s.Lock(within, h.name+"/lock")
	if err != nil {
		return // whether it was taken or not, nothing is written with it
	}
	defer unlock()
	h.locked.note(h.id, took{token}, called, outcome{what: "done"})
	generation, ok := h.look(ctx, s, h.locked, "locked")
	if !ok {
		return
	}
	write := func() {
		called := time.Now()
		err := s.Replace(h.name+"/locked", fmt.Append(nil, generation+1))
		h.locked.note(h.id, wrote{token, generation + 1}, called, told(err))
		if err == nil {
			h.written.Add(1)
		} else if errors.Is(err, state.ErrLocked) {
			h.refused.Add(1)
		}
	}
	if rand.N(2) == 0 || h.suffered.Load() >= int64(h.faults) || !h.suffering.TryLock() {
		write()
		return
	}
	defer h.suffering.Unlock()
	h.suffer(ctx, write)
}

// suffer keeps a host away between its read and its write until another one has written, or in the middle of the write.
func (h *host) suffer(ctx context.Context, write func()) {
	fault := rand.N(3)
	for _, line := range h.lines {
		if fault == 0 {
			line.Cut()
		} else {
			line.Hang()
		}
	}
	before := h.written.Load()
	if fault == 2 {
		write() // it is on its way, and comes later
	}
	for waited := 0; h.written.Load() == before && waited < 400; waited++ {
		sleep(ctx, 10*time.Millisecond)
	}
	for _, line := range h.lines {
		line.Heal()
	}
	if fault != 2 {
		write()
	}
	h.suffered.Add(1)
}

// swap writes the next generation of a value without a lock.
func (h *host) swap(ctx context.Context) {
	v, err := h.store.Get(ctx, h.name+"/free")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	generation := number(v.Value)
	called := time.Now()
	_, err = h.store.Swap(ctx, h.name+"/free", v.Revision, fmt.Append(nil, generation+1))
	h.free.note(h.id, swapped{generation, generation + 1}, called, told(err))
}

// look reads the generation.
func (h *host) look(ctx context.Context, s *Store, to *history, key string) (int, bool) {
	called := time.Now()
	v, err := s.Get(ctx, h.name+"/"+key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	to.note(h.id, read{}, called, outcome{what: "done", generation: number(v.Value)})
	return number(v.Value), true
}

func number(value []byte) (n int) {
	_, _ = fmt.Sscan(string(value), &n)
	return n
}

// judge returns what is worse of the two histories.
func (g *game) judge() porcupine.CheckResult {
	worst := porcupine.Ok
	for _, h := range []*history{g.locked, g.free} {
		result := porcupine.CheckOperationsTimeout(rules(), h.operations, time.Minute)
		if result == porcupine.Illegal || worst == porcupine.Ok {
			worst = result
		}
	}
	return worst
}

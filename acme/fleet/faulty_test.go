package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"mxcert/acme/state"
)

// weather decides which calls fail, and how. It is the same for the same seed, as far as goroutines run alike.
type weather struct {
	mu       sync.Mutex
	random   *rand.Rand
	share    float64 // of the calls that fail
	kinds    []string
	injected map[string]int
	calm     atomic.Bool
	always   string // every call fails like this
}

func newWeather(seed uint64, share float64) *weather {
	return &weather{random: rand.New(rand.NewPCG(seed, 1)), share: share, kinds: kindsOfFaults(), injected: map[string]int{}}
}

func (w *weather) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.injected {
		n += k
	}
	return n
}

func kindsOfFaults() []string {
	return []string{"fails", "fails", "answer lost", "answer lost", "hangs", "hangs, answer lost", "dies before", "dies after", "stalls"}
}

// draw returns what happens to a call; "" is nothing.
func (w *weather) draw(often float64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.always != "" {
		return w.always
	}
	if w.calm.Load() {
		return ""
	}
	if w.random.Float64() >= w.share*often {
		return ""
	}
	kind := w.kinds[w.random.IntN(len(w.kinds))]
	w.injected[kind]++
	return kind
}

// force makes every call fail in one way; "" ends that.
func (w *weather) force(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.always = kind
}

func (w *weather) between(from, to time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return from + time.Duration(w.random.Int64N(int64(to-from)))
}

// faulty is a store that fails as the weather says. A stall is a process that is stopped for longer than its leases last.
type faulty struct {
	state.Shared
	weather *weather
	process *process
}

func (f *faulty) call(ctx context.Context, do func() error) error { return f.calls(ctx, 1, do) }

// calls is call for what fails more often than once.
func (f *faulty) calls(ctx context.Context, often float64, do func() error) error {
	if err := f.process.step(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrAway, err)
	}
	kind := f.weather.draw(often)
	lost := fmt.Errorf("%w: %s", state.ErrAway, kind)
	switch kind {
	case "":
		return do()
	case "fails":
		return lost
	case "answer lost":
		_ = do()
		return lost
	case "hangs, answer lost":
		_ = do()
		fallthrough
	case "hangs":
		sleep(ctx, patience)
		return lost
	case "dies after":
		_ = do()
		fallthrough
	case "dies before":
		f.process.die()
		return fmt.Errorf("%w: %w", state.ErrAway, errDead)
	}
	time.Sleep(2 * lockLease) // nobody can shorten it
	return do()
}

func (f *faulty) Get(ctx context.Context, key string) (v state.Versioned, err error) {
	err = f.call(ctx, func() error { v, err = f.Shared.Get(ctx, key); return err })
	return v, err
}

func (f *faulty) Many(ctx context.Context, keys []string) (v []state.Versioned, err error) {
	err = f.call(ctx, func() error { v, err = f.Shared.Many(ctx, keys); return err })
	return v, err
}

func (f *faulty) Below(ctx context.Context, folder string) (v []state.Versioned, revision int64, err error) {
	err = f.call(ctx, func() error { v, revision, err = f.Shared.Below(ctx, folder); return err })
	return v, revision, err
}

func (f *faulty) Strays(ctx context.Context) (list []state.Stray, err error) {
	err = f.call(ctx, func() error { list, err = f.Shared.Strays(ctx); return err })
	return list, err
}

func (f *faulty) Swap(ctx context.Context, key string, revision int64, value []byte) (now int64, err error) {
	err = f.calls(ctx, 5, func() error { now, err = f.Shared.Swap(ctx, key, revision, value); return err })
	return now, err
}

func (f *faulty) Grant(ctx context.Context, ttl time.Duration) (lease int64, err error) {
	err = f.call(ctx, func() error { lease, err = f.Shared.Grant(ctx, ttl); return err })
	return lease, err
}

func (f *faulty) Renew(ctx context.Context, lease int64) error {
	return f.call(ctx, func() error { return f.Shared.Renew(ctx, lease) })
}

func (f *faulty) Lend(ctx context.Context, key string, value []byte, lease int64) error {
	return f.call(ctx, func() error { return f.Shared.Lend(ctx, key, value, lease) })
}

func (f *faulty) Replace(key string, value []byte) error {
	return f.call(context.Background(), func() error { return f.Shared.Replace(key, value) })
}

func (f *faulty) Remove(key string) error {
	return f.call(context.Background(), func() error { return f.Shared.Remove(key) })
}

func (f *faulty) List(folder string) (names []string, err error) {
	err = f.call(context.Background(), func() error { names, err = f.Shared.List(folder); return err })
	return names, err
}

func (f *faulty) Identity(ctx context.Context) (id string, err error) {
	err = f.call(ctx, func() error { id, err = f.Shared.Identity(ctx); return err })
	return id, err
}

func (f *faulty) Lock(ctx context.Context, key string) (func(), error) {
	var unlock func()
	err := f.calls(ctx, 5, func() (err error) { unlock, err = f.Shared.Lock(ctx, key); return err })
	if err != nil {
		return nil, err // if the answer was lost, the lease ends by itself
	}
	return func() {
		if f.process.step() == nil {
			unlock()
		}
	}, nil
}

func (f *faulty) Watch(ctx context.Context, folder string, after int64, changed func([]state.Versioned)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return f.Shared.Watch(ctx, folder, after, func(list []state.Versioned) {
		if f.process.step() == nil {
			changed(list)
		}
	})
}

func (f *faulty) Holder() state.Shared { return &faulty{f.Shared.Holder(), f.weather, f.process} }

package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mxcert/hooks/unit"
)

// reloadWindow is how long a reload waits for certificates whose passes are under way and may want the same one.
const reloadWindow = 5 * time.Second

// reloader lets certificates that want the same unit at the same time share one reload, because each reload may cost
// connections. A reload starts when all passes that are under way have asked for it or ended, or after reloadWindow. A pass
// that asks later waits for another reload: a reload proves nothing for files that were written after it had started.
type reloader struct {
	mu       sync.Mutex
	expected map[string]map[any]bool // passes under way that may want a unit
	next     map[string]*reload      // has not started
	last     map[string]*reload      // has started
	job      func(ctx context.Context, unit string) error
}

// reload is one for all that have joined it.
type reload struct {
	ready, done chan struct{}
	once        sync.Once
	err         error
}

// check reports whether a unit could be reloaded.
func (*reloader) check(ctx context.Context, name string) error { return unit.Check(ctx, name) }

// expect announces that a pass may want units. The function that it returns takes that back.
func (r *reloader) expect(who any, units []string) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.expected == nil {
		r.expected = map[string]map[any]bool{}
	}
	for _, name := range units {
		if r.expected[name] == nil {
			r.expected[name] = map[any]bool{}
		}
		r.expected[name][who] = true
	}
	return func() {
		for _, name := range units {
			r.arrive(who, name)
		}
	}
}

// arrive notes that a pass is not waited for any more.
func (r *reloader) arrive(who any, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.expected[name], who)
	if next := r.next[name]; next != nil && len(r.expected[name]) == 0 {
		next.begin()
	}
}

func (r *reload) begin() { r.once.Do(func() { close(r.ready) }) }

// reload waits for a reload of the unit that starts after the call; an urgent one starts at once.
func (r *reloader) reload(ctx context.Context, who any, name string, urgent bool) error {
	r.mu.Lock()
	next := r.next[name]
	if next == nil {
		next = &reload{ready: make(chan struct{}), done: make(chan struct{})}
		if r.next == nil {
			r.next, r.last = map[string]*reload{}, map[string]*reload{}
		}
		r.next[name] = next
		go r.run(context.WithoutCancel(ctx), name, next, r.last[name])
	}
	if urgent {
		next.begin()
	}
	r.mu.Unlock()
	r.arrive(who, name)
	select {
	case <-next.done:
		return next.err
	case <-ctx.Done():
		return fmt.Errorf("the reload of %s has not ended: %w", name, ctx.Err())
	}
}

// run makes one reload, after the one before. It has its own time limit: it serves more than the pass that asked first.
func (r *reloader) run(ctx context.Context, name string, this, before *reload) {
	defer close(this.done)
	timer := time.NewTimer(reloadWindow)
	defer timer.Stop()
	select {
	case <-this.ready:
	case <-timer.C:
	}
	if before != nil {
		<-before.done
	}
	r.mu.Lock()
	delete(r.next, name)
	r.last[name] = this
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	if r.job == nil {
		this.err = unit.Reload(ctx, name)
		return
	}
	this.err = r.job(ctx, name)
}

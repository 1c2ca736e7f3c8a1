package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mxcert/hooks/unit"
)

const (
	// reloadWindow is how long a reload waits for certificates whose passes are under way and may want the same one.
	reloadWindow = 5 * time.Second
	// postfixUnit and postfixInstance: on Debian the first is /bin/true, and the second is what runs.
	postfixUnit, postfixInstance = "postfix.service", "postfix@-.service"
)

// reloader asks systemd, with a connection for each question: one that is kept does not survive a restart of the bus.
//
// Certificates that want the same unit at the same time share one reload, because each may cost connections: it begins when
// all passes that are under way have come to it or ended, or after reloadWindow. Whoever comes later waits for another one:
// a reload proves nothing for files that were written after it had begun.
type reloader struct {
	mu       sync.Mutex
	expected map[string]map[any]bool // passes under way that may want a unit
	next     map[string]*reload      // has not begun
	last     map[string]*reload      // has begun
	job      func(ctx context.Context, unit string) error
}

// reload is one for all that have joined it.
type reload struct {
	ready, done chan struct{}
	once        sync.Once
	err         error
}

// check tells whether a unit could be reloaded.
func (*reloader) check(ctx context.Context, name string) error {
	m, err := unit.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Check(ctx, instance(ctx, m, name))
}

// instance is the unit that a name stands for.
func instance(ctx context.Context, m *unit.Manager, name string) string {
	if name != postfixUnit {
		return name
	}
	if s, err := m.Describe(ctx, postfixInstance); err == nil && s.LoadState == "loaded" {
		return postfixInstance
	}
	return name
}

// reloadNow has systemd reload a unit, and waits for the job.
func reloadNow(ctx context.Context, name string) error {
	m, err := unit.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Reload(ctx, instance(ctx, m, name))
}

// expect announces that a pass may want units. The function it gives says that it will not any more.
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

// reload waits for a reload of the unit that begins after the call; at once, where it is urgent.
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

// run makes one reload, after the one before. It has its own time: it is not of the one pass that came first.
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
		this.err = reloadNow(ctx, name)
		return
	}
	this.err = r.job(ctx, name)
}

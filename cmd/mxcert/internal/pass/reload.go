package pass

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/unit"
)

const (
	// reloadWindow is how long a reload waits for other passes that are running and may want the same reload.
	reloadWindow = 5 * time.Second
	// postfixRest is how long Postfix is left alone after a reload. In the first milliseconds a process of before the reload may still take a
	// connection. Its tlsmgr is gone, so it waits for a second before it asks for another (attr_clnt.c), and mxcert with it.
	postfixRest = 50 * time.Millisecond
)

// reloads lets certificates share one reload if they want the same unit at the same time, because each reload may cost connections. The
// reload starts when every running pass has asked for it or ended, but at the latest after reloadWindow. A pass that comes later waits for
// another reload: a reload proves nothing for files that were written after it started.
type reloads struct {
	mu       sync.Mutex
	expected map[string]map[any]bool // running passes that may want a unit
	next     map[string]*reload      // the reload that has not started
	last     map[string]*reload      // the reload that has started
	job      func(ctx context.Context, unit string) error
}

// reload is one reload, shared by all passes that have joined it.
type reload struct {
	ready, done chan struct{}
	once        sync.Once
	err         error
}

// reloadAll reloads every one of the units. A unit that is not running is only reported, because it reads the files when it starts.
func (p *pass) reloadAll(ctx context.Context, units []string) (inactive []error, err error) {
	for _, name := range units {
		err := p.reload(ctx, name, false)
		if err != nil && !unit.NotRunning(err) {
			return nil, report.At("reload", err)
		}
		if err != nil {
			inactive = append(inactive, report.At("reload", err))
		}
	}
	return inactive, nil
}

// reload has a unit reloaded. All certificates that want it now share this reload. An urgent reload does not wait for others.
func (p *pass) reload(ctx context.Context, name string, urgent bool) error {
	start := time.Now()
	first, err := p.reloads.reload(ctx, p, name, urgent)
	if first {
		p.reloaded = append(p.reloaded, report.Reloaded{Unit: name, Outcome: outcomeOf(err)})
	}
	if err != nil {
		return err
	}
	p.say("reload", fmt.Sprintf("%s (%s)", name, time.Since(start).Round(time.Millisecond)))
	if slices.ContainsFunc(p.want.Places, func(place wanted.Place) bool { return place.Unit == name && place.Kind == "postfix" }) {
		select {
		case <-time.After(postfixRest):
		case <-ctx.Done():
		}
	}
	return nil
}

// outcomeOf says how a reload ended.
func outcomeOf(err error) report.Outcome {
	switch {
	case err == nil:
		return report.Succeeded
	case unit.NotRunning(err):
		return report.Inactive
	}
	return report.DidFail
}

// expect announces that a pass may want units. The returned function takes the announcement back.
func (r *reloads) expect(who any, units []string) (leave func()) {
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

// arrive records that other passes need not wait for this pass any more.
func (r *reloads) arrive(who any, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.expected[name], who)
	if next := r.next[name]; next != nil && len(r.expected[name]) == 0 {
		next.begin()
	}
}

func (r *reload) begin() { r.once.Do(func() { close(r.ready) }) }

// reload waits for a reload of the unit that starts after the call. If it is urgent, the reload starts at once. first reports whether no
// other pass has asked for this reload before.
func (r *reloads) reload(ctx context.Context, who any, name string, urgent bool) (first bool, err error) {
	r.mu.Lock()
	next := r.next[name]
	if first = next == nil; first {
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
		return first, next.err
	case <-ctx.Done():
		return first, fmt.Errorf("the reload of %s did not end: %w", name, ctx.Err())
	}
}

// run makes one reload, after the one before has ended. The reload has its own time limit, because it belongs to several passes.
func (r *reloads) run(ctx context.Context, name string, this, before *reload) {
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

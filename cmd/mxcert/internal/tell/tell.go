// Package tell hands what passes find to those who tell it to people: metrics, notifications, the page.
//
// A [Hub] keeps the World: what is known about each certificate after its last pass, and what looks beside the passes have found. Each
// [Listener] compares the World with what it said last, and says the difference. So nothing has to be queued here: a listener that was slow
// sees the newest World, and what it has not said yet is still different.
//
// Nothing here can delay, fail or slow a pass. The methods of a Hub that passes call only store values. Each listener runs in a goroutine of
// its own, one call at a time. A listener that hangs keeps only itself from going on, and one that panics costs a line in the log. Between
// changes there is no goroutine.
package tell

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// World is what is known. A listener may keep it, and must not change it.
type World struct {
	Host        *wanted.Host // the configuration in force
	Store       *state.Book
	Release     string    // version of the program
	Loaded      time.Time // when the configuration came into force
	ConfigError string    // what is wrong with the files, which are therefore not in force; "" if nothing is
	ConfigBadAt time.Time // when that was found

	Certificates map[string]Certificate           // by name; those of the configuration in force that had a pass
	Findings     map[Topic][]finding.Finding      // of the looks that were made; an empty list if a look has found nothing
	Reported     map[string]*report.SenderReports // what senders report about certificates (RFC 8460), by name; those that no report is about are not in it
	Fleet        *Fleet                           // how the fleet of this host is; nil if it is in none, or that is not known yet
	Health       func() error                     // says what hangs; nil if no daemon runs, but a command
	Final        bool                             // the process ends: this is the last call
	Change       int                              // counts the changes, so that a listener can wait until another one knows the same
}

// Fleet is how the fleet of this host is.
type Fleet struct {
	Name   string // of the fleet
	Host   string // of this host in it
	Health fleet.Health
	Member *fleet.Member // for what the hosts say about certificates: with a daemon at work it asks nobody
}

// Certificate is what is known about a certificate after its last pass.
type Certificate struct {
	Report report.Certificate // without the plan of a dry run
	At     time.Time          // when the pass ended
	Took   time.Duration
}

// Topic names a look beside the passes. Its findings replace those of the look before.
type Topic struct {
	Source      string // such as senders, ct or tlsrpt
	Certificate string // "" if they are about the host
}

// Pass is a pass that has ended.
type Pass struct {
	Report report.Certificate
	At     time.Time // when it ended
	Took   time.Duration
}

// Listener tells people about the World.
type Listener interface {
	// Name is a word for the log.
	Name() string
	// On reports whether the configuration asks for this listener. Otherwise Listen is not called, except once after it was on.
	On(host *wanted.Host) bool
	// Listen says what has changed since its last call. It returns when it wants to be called again although nothing has changed; zero if
	// only a change matters. It ends soon after ctx has ended. It logs its errors itself.
	Listen(ctx context.Context, w World) (again time.Time)
}

// Witness is a listener that must see every pass, because it counts. Witness is called by the pass: it must return at once.
type Witness interface {
	Witness(p Pass)
}

// settle is how long changes are collected before a listener is called: passes often end together.
const settle = time.Second

// Hub tells listeners about changes. Make one with [New].
type Hub struct {
	log  *slog.Logger
	ctx  context.Context //nolint:containedctx // of the listeners; ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	world  World
	seats  []*seat
	on     bool // some listener is
	closed bool
}

// seat is a listener and when it is called.
type seat struct {
	Listener
	on    bool          // the configuration asks for it
	ends  bool          // it was on before, and has to be called once more
	dirty bool          // it does not know of the last change
	busy  bool          // it is being called
	timer *time.Timer   // of its next call; nil if there is none
	at    time.Time     // when that is
	done  chan struct{} // closed when the last call has ended
}

// New returns a hub with listeners. release is the version of the program.
func New(log *slog.Logger, release string, listeners ...Listener) *Hub {
	h := &Hub{log: log, world: World{Release: release, Certificates: map[string]Certificate{}, Findings: map[Topic][]finding.Finding{}}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	for _, l := range listeners {
		h.seats = append(h.seats, &seat{Listener: l})
	}
	return h
}

// Serve says that the process is a daemon. health says what hangs, and nil if nothing does.
func (h *Hub) Serve(health func() error) { h.change(func(w *World) { w.Health = health }) }

// InForce says which configuration is in force. What is known about certificates that it does not have is forgotten.
func (h *Hub) InForce(host *wanted.Host, store *state.Book) {
	h.change(func(w *World) {
		w.Host, w.Store, w.Loaded, w.ConfigError, w.ConfigBadAt = host, store, time.Now(), "", time.Time{}
		gone := func(name string) bool { _, is := host.Certificate(name); return name != "" && !is }
		maps.DeleteFunc(w.Certificates, func(name string, _ Certificate) bool { return gone(name) })
		maps.DeleteFunc(w.Findings, func(t Topic, _ []finding.Finding) bool { return gone(t.Certificate) })
		h.on = false
		for _, s := range h.seats {
			was := s.on
			s.on = s.On(host)
			s.ends = !s.on && (s.ends || was)
			h.on = h.on || s.on
		}
	})
}

// ConfigBad says that the files of the configuration are broken; the one that was loaded before stays in force.
func (h *Hub) ConfigBad(problem string) {
	h.change(func(w *World) {
		if w.ConfigError == "" {
			w.ConfigBadAt = time.Now()
		}
		w.ConfigError = problem
	})
}

// Passed says how a pass ended.
func (h *Hub) Passed(p Pass) {
	for _, s := range h.seats {
		if witness, ok := s.Listener.(Witness); ok {
			h.guard(s, func() { witness.Witness(p) })
		}
	}
	h.change(func(w *World) {
		if !h.on {
			return
		}
		p.Report.Plan, p.Report.DryRun = nil, nil
		w.Certificates[p.Report.Name] = Certificate(p)
	})
}

// Found says what a look has found about a topic; nothing if the list is empty, which is not the same as a look that was not made.
func (h *Hub) Found(t Topic, list []finding.Finding) {
	h.change(func(w *World) {
		if h.on {
			w.Findings[t] = list
		}
	})
}

// Fleet says how the fleet of this host is; nil if it is in none.
func (h *Hub) Fleet(f *Fleet) { h.change(func(w *World) { w.Fleet = f }) }

// Reported says what senders report about certificates, by name.
func (h *Hub) Reported(all map[string]*report.SenderReports) {
	h.change(func(w *World) {
		if h.on {
			w.Reported = all
		}
	})
}

// Close calls the listeners that are on a last time, and ends. It returns when they have returned, or soon after ctx has ended.
func (h *Hub) Close(ctx context.Context) {
	defer h.stop()
	context.AfterFunc(ctx, h.stop)
	h.mu.Lock()
	h.closed, h.world.Final = true, true
	var running []chan struct{}
	for _, s := range h.seats {
		if s.timer != nil {
			s.timer.Stop()
		}
		if s.dirty = s.dirty || s.on; s.wants() && !s.busy { // those that know everything have to know that this is the end
			h.call(s)
		}
		if s.done != nil {
			running = append(running, s.done)
		}
	}
	h.mu.Unlock()
	for _, done := range running {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// change changes the World and calls the listeners soon.
func (h *Hub) change(how func(*World)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	how(&h.world)
	h.world.Change++
	if h.world.Host == nil {
		return
	}
	for _, s := range h.seats {
		if s.dirty = true; s.wants() {
			h.soon(s, time.Now().Add(settle))
		}
	}
}

// soon has a listener called at a time, or before if that is planned. The caller holds h.mu.
func (h *Hub) soon(s *seat, at time.Time) {
	if s.busy || s.timer != nil && !s.at.After(at) {
		return // the end of a call looks at dirty
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.at = at
	s.timer = time.AfterFunc(time.Until(at), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.closed && !s.busy {
			h.call(s)
		}
	})
}

// call calls a listener in a goroutine. The caller holds h.mu.
func (h *Hub) call(s *seat) {
	s.busy, s.dirty, s.ends, s.timer, s.done = true, false, false, nil, make(chan struct{})
	w := h.world
	w.Certificates, w.Findings = maps.Clone(w.Certificates), maps.Clone(w.Findings)
	go func() {
		var again time.Time
		h.guard(s, func() { again = s.Listen(h.ctx, w) })
		h.mu.Lock()
		defer h.mu.Unlock()
		s.busy = false
		switch {
		case h.closed && s.wants() && h.ctx.Err() == nil: // a change came while it ran
			s.dirty = false
			w := h.world
			go func() {
				defer close(s.done)
				h.guard(s, func() { s.Listen(h.ctx, w) })
			}()
			return
		case h.closed:
		case s.wants():
			h.soon(s, time.Now().Add(settle))
		case !again.IsZero() && s.on:
			h.soon(s, again)
		}
		close(s.done)
	}()
}

// wants reports whether a listener has to be called because of a change.
func (s *seat) wants() bool { return s.dirty && (s.on || s.ends) }

// guard calls a listener, and logs its panic.
func (h *Hub) guard(s *seat, do func()) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("a listener failed", "listener", s.Name(), "error", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	do()
}

// Names lists the certificates of which something is known, in order.
func (w World) Names() []string { return slices.Sorted(maps.Keys(w.Certificates)) }

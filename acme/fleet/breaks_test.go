package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// The host that began the fleet may leave it: the others, and those that join later, still know the store.
func TestTheFounderLeaves(t *testing.T) {
	for what, leave := range map[string]func(w *world, stays *host) func(*Settings){
		"removed": func(w *world, stays *host) func(*Settings) {
			_, err := stays.RemoveRecipient(w.t.Context(), w.all[0])
			must(w.t, err)
			return func(*Settings) {}
		},
		"taken out of the configuration": func(w *world, _ *host) func(*Settings) {
			return func(s *Settings) {
				s.Recipients = slices.DeleteFunc(slices.Clone(s.Recipients), func(r seal.Recipient) bool { return r == w.all[0] })
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, 3)
			w.host(0, "").leads1("mx.example").Release()
			stays := w.host(1, "")
			stays.leads1("mx.example").Release()
			old, err := stays.shared.Get(t.Context(), clusterPlace)
			must(t, err)
			change := leave(w, stays)
			must(t, stays.shared.Replace(clusterPlace, old.Value)) // restored from a backup, in a new cluster
			must(t, stays.remember(func(all *memory) bool { all.Cluster = "another"; return true }))
			for i, dir := range []string{1: stays.dir, 2: ""}[1:] {
				again := w.host(i+1, dir, change)
				if err := again.Join(t.Context()); err != nil {
					t.Errorf("mx%d: %v", i+1, err)
				}
				again.leads1("mx.example").Release()
			}
		})
	}
}

// fullDisk is a disk that takes no changes while it is full.
type fullDisk struct {
	state.Store
	full *atomic.Bool
}

func (d fullDisk) Replace(key string, value []byte) error {
	if d.full.Load() {
		return &state.Error{Op: "write", Path: key, Err: syscall.ENOSPC}
	}
	return d.Store.Replace(key, value)
}

// A store that comes back while this host's disk is full is known to be back, and the log says so once.
func TestTheStoreComesBackToAFullDisk(t *testing.T) {
	pair(t, 1, func(t *testing.T, s *storm) {
		h, full := s.hosts[0], new(atomic.Bool)
		h.weather = newWeather(1, 0)
		h.weather.calm.Store(true)
		p := h.disk.process()
		var log lines
		m, err := New(Settings{Name: "berlin", Host: h.name, Identity: h.identity, Recipients: h.all, Session: "1"}, &faulty{h.store.open(), h.weather, p},
			fullDisk{p, full}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		t.Cleanup(func() { cancel(); <-ended })
		go func() { defer close(ended); m.Run(ctx, func([]string) {}) }()
		m.Merge(t.Context(), stormName, Wish{Names: []string{stormName}})
		time.Sleep(time.Minute)
		h.weather.force("hangs")
		time.Sleep(5 * time.Minute)
		if m.Health().Up {
			t.Fatal("the store is not away")
		}
		full.Store(true)
		h.weather.force("")
		time.Sleep(time.Hour)
		if !m.Health().Up {
			t.Errorf("%+v", m.Health())
		}
		if n := strings.Count(log.String(), "answers again"); n != 1 {
			t.Errorf("the log says %d times that the store answers again", n)
		}
	})
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}

// Hosts with a problem that each pass words anew, with the number of a port in it, do not keep each other at work.
func TestProblemsWakeNobody(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		var passes atomic.Int32
		for _, h := range s.hosts {
			h.weather = newWeather(1, 0)
			h.weather.calm.Store(true)
			p := h.disk.process()
			m, err := New(Settings{Name: "berlin", Host: h.name, Identity: h.identity, Recipients: h.all, Session: h.name}, &faulty{h.store.open(), h.weather, p}, p, nil)
			must(t, err)
			pass := func() {
				m.Merge(t.Context(), stormName, Wish{Names: []string{stormName}})
				m.Note(stormName, Deployed{Wish: Wish{Names: []string{stormName}}, Problem: fmt.Sprintf("read tcp 192.0.2.1:%d->192.0.2.1:25: connection reset by peer", 30000+passes.Add(1))})
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			t.Cleanup(func() { cancel(); <-ended })
			wake := make(chan struct{}, 1)
			go func() {
				for pass(); ; pass() {
					select {
					case <-wake:
					case <-ctx.Done():
						return
					}
				}
			}()
			go func() {
				defer close(ended)
				m.Run(ctx, func(names []string) {
					if len(names) > 0 {
						select {
						case wake <- struct{}{}:
						default:
						}
					}
				})
			}()
		}
		time.Sleep(time.Hour)
		if n := passes.Load(); n > 20 {
			t.Errorf("%d passes in an hour", n)
		}
	})
}

// Hosts at work stay alive for each other after everything was deleted from the store, with leases that live on.
func TestHostsAreAliveAfterAWipe(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(true), s.hosts[1].start(true)
		for _, m := range []*Member{a, b} {
			m.Merge(t.Context(), stormName, Wish{Names: []string{stormName}})
		}
		alive := func() bool {
			hosts, err := b.Hosts(t.Context(), stormName)
			return err == nil && len(hosts) == 2 && hosts[1].Host == a.set.Host && hosts[1].Alive
		}
		time.Sleep(5 * time.Minute)
		if !alive() {
			t.Fatal("the other host is not alive before")
		}
		s.store.deleteAll()
		time.Sleep(2 * time.Minute)
		if !alive() {
			hosts, err := b.Hosts(t.Context(), stormName)
			t.Errorf("two minutes after all was deleted: %+v, %v", hosts, err)
		}
		time.Sleep(time.Hour)
		if !alive() {
			t.Error("an hour after all was deleted: the other host is not alive")
		}
		isErr(t, "to forget a host that is at work", b.Forget(t.Context(), a.set.Host), state.ErrAway) // a refusal
	})
}

// deleteAll removes every key, as etcdctl del --prefix does: leases live on, and the cluster is the same.
func (m *model) deleteAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.keys {
		m.set(key, nil, 0, nil)
	}
}

package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// each returns every call of a store, by name.
func each(s *Store) map[string]func() error {
	return map[string]func() error{
		"read":     func() error { _, err := s.Read("a/b"); return err },
		"replace":  func() error { return s.Replace("a/b", nil) },
		"remove":   func() error { return s.Remove("a/b") },
		"list":     func() error { _, err := s.List("a"); return err },
		"rename":   func() error { return s.Rename("a/b", "a/c") },
		"lock":     func() error { _, err := s.Lock(context.Background(), "a/lock"); return err },
		"share":    func() error { _, err := s.Share(context.Background(), "a/lock"); return err },
		"many":     func() error { _, err := s.Many(context.Background(), []string{"a/b", "a/c"}); return err },
		"below":    func() error { _, _, err := s.Below(context.Background(), "a"); return err },
		"swap":     func() error { _, err := s.Swap(context.Background(), "a/b", 0, nil); return err },
		"watch":    func() error { return s.Watch(context.Background(), "a", 1, func([]state.Versioned) {}) },
		"grant":    func() error { _, err := s.Grant(context.Background(), time.Minute); return err },
		"renew":    func() error { return s.Renew(context.Background(), 4711) },
		"lend":     func() error { return s.Lend(context.Background(), "a/b", nil, 4711) },
		"identity": func() error { _, err := s.Identity(context.Background()); return err },
	}
}

// all calls each of them at once, and checks the error.
func all(t *testing.T, s *Store, check func(name string, err error), but ...string) {
	t.Helper()
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	calls := each(s)
	for _, name := range but {
		delete(calls, name)
	}
	for name, call := range calls {
		go func() { results <- result{name, call()} }()
	}
	for range calls {
		r := <-results
		check(r.name, r.err)
	}
}

// expectAway checks that an error is one line that names the operation, the key, why, and what to do.
func expectAway(t *testing.T, what string, err error, why string) {
	t.Helper()
	e, ok := errors.AsType[*state.Error](err)
	if !ok || !errors.Is(err, state.ErrAway) || e.Op == "" || !strings.HasPrefix(e.Path, "etcd:/mxcert/v1/") {
		t.Errorf("%s: %v", what, err)
		return
	}
	if !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") || e.Hint() == "" {
		t.Errorf("%s says %q, and not %q; the hint is %q", what, err, why, e.Hint())
	}
}

// TestNobodyListens: each call ends at once, and says so.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	cluster.Members[0].Stop()
	line := cluster.Members[0].Line()
	line.Refuse()
	s := open(t, Settings{Endpoints: []string{line.URL()}, Prefix: "/mxcert/v1/x/", Holder: "mx1", Patience: time.Minute, Lease: time.Second})
	// The patience is longer than the test may take; only a watch has it.
	all(t, s, func(name string, err error) { expectAway(t, name, err, "refuses the connection") }, "watch")
}

// TestHangingCluster: each call ends after the patience.
func TestHangingCluster(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	settings.Patience = 500 * time.Millisecond
	s := open(t, settings)
	if err := s.Replace("a/b", nil); err != nil {
		t.Fatal(err)
	}
	cluster.Members[0].Pause()
	all(t, s, func(name string, err error) { expectAway(t, name, err, "does not answer in time") })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, "a/b"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, state.ErrAway) {
		t.Errorf("a call whose time is over: %v", err)
	}
	cluster.Members[0].Resume()
	if err := s.Replace("a/b", []byte("again")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNoQuorum: a member that is alone refuses, and is not asked for what it cannot know.
func TestNoQuorum(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 3)
	settings := room(cluster)
	settings.Patience = 2 * time.Second
	s := open(t, settings)
	if err := s.Replace("a/b", []byte("before")); err != nil {
		t.Fatal(err)
	}
	cluster.Members[1].Stop()
	cluster.Members[2].Stop()
	all(t, s, func(name string, err error) {
		if e, ok := errors.AsType[*state.Error](err); !ok || !errors.Is(err, state.ErrAway) || e.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}, "renew") // a leader that has lost its followers only just answers
	cluster.Members[1].Start()
	if _, err := s.List("a"); err != nil { // a read finds a member that answers
		t.Errorf("with a quorum again: %v", err)
	}
	if err := s.Replace("after", nil); err != nil {
		t.Errorf("with a quorum again: %v", err)
	}
}

// TestMembersFail: calls go on while members stop, hang and come back one after the other, and a watch sees each change once, in order.
func TestMembersFail(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 3)
	settings := room(cluster)
	settings.Patience = 3 * time.Second // a member that is new or was held may need a second of a slow machine
	s, writer := open(t, settings), open(t, settings)
	_, first, err := s.Below(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	seen := watching(t, s, "", first)
	for i, m := range cluster.Members {
		m.Stop()
		insist(t, writer, "stopped", fmt.Sprint(i))
		m.Start()
		insist(t, writer, "started", fmt.Sprint(i))
		next := cluster.Members[(i+1)%3]
		next.Pause()
		insist(t, writer, "paused", fmt.Sprint(i))
		next.Resume()
	}
	insist(t, writer, "end", "")
	last, err := writer.Get(t.Context(), "end")
	if err != nil {
		t.Fatal(err)
	}
	seen.sawAll(writer, first, last.Revision, "stopped", "started", "paused", "end")
}

// insist writes a value, and again if nobody knows what became of that. A write that was sent to a member that is held may still come: after the
// second one, and after whatever was written since. So only etcd can say what a watch has to see.
func insist(t *testing.T, s *Store, key, value string) {
	t.Helper()
	for try := 0; ; try++ {
		err := s.Replace(key, []byte(value))
		if err == nil {
			return
		}
		if !errors.Is(err, state.ErrAway) || try == 3 {
			t.Fatalf("%s %s: %v", key, value, err)
		}
	}
}

// TestOneClientIsCutOff: its calls fail, those of others do not; then it works again by itself.
func TestOneClientIsCutOff(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	here := room(cluster)
	there := here
	line := cluster.Members[0].Line()
	here.Endpoints = []string{line.URL()}
	s, other := open(t, here), open(t, there)
	if err := s.Replace("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	line.Cut()
	_, err := s.Read("a")
	expectAway(t, "read", err, "ends the connection")
	if err := other.Replace("a", []byte("2")); err != nil {
		t.Error(err)
	}
	line.Heal()
	if value, err := s.Read("a"); err != nil || string(value) != "2" {
		t.Errorf("%q, %v", value, err)
	}
}

// TestOutageIsQuiet: a store that waits for a cluster does not ask it all the time.
func TestOutageIsQuiet(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	line := cluster.Members[0].Line()
	settings.Endpoints = []string{line.URL()}
	s := open(t, settings)
	unlock, err := s.Lock(t.Context(), "lock") // a lease is to be renewed all the time
	if err != nil {
		t.Fatal(err)
	}
	line.Cut()
	before := line.Accepted()
	time.Sleep(3 * time.Second)
	if n := line.Accepted() - before; n > 30 { // 3 s: some 5 renewals of a lease of 2 s, and as many attempts of gRPC
		t.Errorf("%d connections in 3 s", n)
	}
	line.Heal()
	if err := s.Replace("a", nil); err != nil && !errors.Is(err, state.ErrLocked) {
		t.Error(err)
	}
	unlock()
	if err := s.Replace("a", nil); err != nil {
		t.Error(err)
	}
}

// TestClosed: nothing works any more, and nothing hangs.
func TestClosed(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	s := open(t, settings)
	other := s.Holder()
	if _, err := s.Lock(t.Context(), "a/lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lock(t.Context(), "b/lock"); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := other.Replace("a", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a holder that is closed: %v", err)
	}
	if err := s.Replace("a", nil); err != nil {
		t.Errorf("the holder beside it: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	all(t, s, func(name string, err error) {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	})
	next := open(t, settings)
	for _, key := range []string{"a/lock", "b/lock"} {
		unlock, err := next.Lock(ended(t), key)
		if err != nil {
			t.Errorf("%s was not given back: %v", key, err)
			continue
		}
		unlock()
	}
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

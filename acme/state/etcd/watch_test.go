package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// sight is what a watch has seen.
type sight struct {
	t     *testing.T
	ended chan error

	mu      sync.Mutex
	changes []state.Versioned
}

// watching watches a folder after a revision until the test ends.
func watching(t *testing.T, s *Store, folder string, after int64) *sight {
	w := &sight{t: t, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		w.ended <- s.Watch(ctx, folder, after, func(list []state.Versioned) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, list...)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-w.ended; !errors.Is(err, context.Canceled) && !t.Failed() {
			t.Error(err)
		}
	})
	return w
}

// until waits until the watch has seen a change of a revision, or a later one.
func (w *sight) until(revision int64) {
	w.t.Helper()
	limit := time.After(time.Minute)
	for {
		w.mu.Lock()
		n := len(w.changes)
		there := n > 0 && w.changes[n-1].Revision >= revision
		w.mu.Unlock()
		if there {
			return
		}
		select {
		case err := <-w.ended:
			w.ended <- err
			w.t.Fatal(err)
		case <-limit:
			w.t.Fatalf("a minute after revision %d, the watch has seen %q", revision, w.list(revision))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// list returns what was seen up to a revision.
func (w *sight) list(last int64) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.changes {
		if v.Revision <= last {
			list = append(list, entry(v))
		}
	}
	return list
}

func entry(v state.Versioned) string { return fmt.Sprintf("%d: %s=%s", v.Revision, v.Key, v.Value) }

// sawAll checks that the watch sees each change that etcd has of some keys from after a revision to another one, once, in order.
func (w *sight) sawAll(s *Store, first, last int64, keys ...string) {
	w.t.Helper()
	w.until(last)
	var made []string
	for revision := first + 1; revision <= last; revision++ {
		for _, key := range keys {
			answer, err := s.scan(w.t.Context(), s.full(key), s.full(key)+"\x00", revision, 1)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(answer.Kvs) > 0 && answer.Kvs[0].ModRevision == revision {
				made = append(made, entry(s.versioned(answer.Kvs[0])))
			}
		}
	}
	if seen := w.list(last); !slices.Equal(seen, made) {
		w.t.Errorf("seen %q\nof   %q", seen, made)
	}
}

// put writes a value, and returns its revision.
func put(t *testing.T, s *Store, key string) int64 {
	t.Helper()
	revision, err := s.Swap(t.Context(), key, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// silences are what a member may tell its watches while it answers calls.
var silences = map[string]func(answer *etcdserverpb.WatchResponse, now int64) bool{
	"nothing": func(answer *etcdserverpb.WatchResponse, _ int64) bool { return answer.Created },
	"what was": func(answer *etcdserverpb.WatchResponse, now int64) bool {
		answer.Header.Revision = min(answer.Header.Revision, now)
		return len(answer.Events) == 0
	},
}

// TestSilentMember: the watch at a member that tells nothing more goes on at another one, without a loss, and calls of the same store do not notice.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	for name, tell := range silences {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := etcdtest.Start(t, 3)
			settings := room(cluster)
			settings.Proof = time.Second
			s, writer := open(t, settings), open(t, settings)
			first := put(t, writer, "first")
			seen := watching(t, s, "", first)
			before := put(t, writer, "before")
			seen.until(before)
			member := cluster.Members[s.asked().at]
			member.FilterWatches(func(answer *etcdserverpb.WatchResponse) bool { return tell(answer, before) })
			after := put(t, writer, "after")
			reading, stop := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			calls.Go(func() {
				for reading.Err() == nil {
					if _, err := s.Get(t.Context(), "after"); err != nil {
						t.Error(err)
					}
					sleep(reading, 20*time.Millisecond)
				}
			})
			seen.until(after)
			stop()
			calls.Wait()
			last := put(t, writer, "last")
			seen.sawAll(writer, first, last, "before", "after", "last")
		})
	}
}

// TestMemberBehind: a watch that begins at a member that is behind is not told that etcd was restored. If that stays so, it goes on at another one.
func TestMemberBehind(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 3)
	settings := room(cluster)
	settings.Proof = time.Second
	s := open(t, settings)
	revision := put(t, s, "a")
	cluster.Members[s.asked().at].FilterWatches(func(answer *etcdserverpb.WatchResponse) bool {
		return silences["what was"](answer, revision-1)
	})
	seen := watching(t, s, "", revision)
	seen.until(put(t, s, "b"))
}

// TestWatchAsksAll: a watch does not give up before it has asked all members, however long that takes.
func TestWatchAsksAll(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	revision := put(t, open(t, settings), "a")
	list := make([]string, 5)
	healthy := (first(settings.Holder, len(list)) + len(list) - 1) % len(list) // the last that is asked
	for i := range list {
		line := cluster.Members[0].Line()
		if list[i] = line.URL(); i != healthy {
			line.Hang()
		}
	}
	settings.Endpoints, settings.Patience = list, 3*time.Second // a fifth of it for each, and a pause of 0.2 s or more: the first four use it up
	writer := open(t, Settings{Endpoints: cluster.Endpoints(), Prefix: settings.Prefix, Holder: "mx2"})
	seen := watching(t, open(t, settings), "", revision)
	seen.until(put(t, writer, "b"))
}

// TestSlowMember: a member that needs longer for the first changes of each stream than a proof may take does not keep a watch from them.
func TestSlowMember(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	cluster.Members[0].FilterWatches(func(answer *etcdserverpb.WatchResponse) bool {
		if !answer.Created {
			time.Sleep(3 * time.Second)
		}
		return true
	})
	settings := room(cluster)
	writer := open(t, settings)
	settings.Patience = 1500 * time.Millisecond
	before := put(t, writer, "a")
	last := put(t, writer, "b")
	seen := watching(t, open(t, settings), "", before)
	seen.sawAll(writer, before, last, "b")
}

// TestQuietWatch: a watch with nothing to tell stays where it is, with few requests, also if nothing at all changes in etcd.
func TestQuietWatch(t *testing.T) {
	t.Parallel()
	// The first request begins. A proof needs more than one if nothing changes. The last one that is awaited here belongs to a second proof.
	for name, awaited := range map[string]int64{"nothing changes": 2 + proofTries, "others change": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := etcdtest.Start(t, 1)
			settings := room(cluster)
			settings.Proof = time.Second
			s, other := open(t, settings), open(t, room(cluster))
			revision := put(t, s, "a/b")
			began := time.Now()
			seen := watching(t, s, "a", revision)
			for begun, requests := int64(0), int64(0); requests < awaited; begun, requests = cluster.Members[0].Watches() {
				if begun > 1 || time.Since(began) > time.Minute {
					t.Fatalf("%d streams for one watch, and %d requests", begun, requests)
				}
				if name == "others change" {
					if err := other.Replace("value", nil); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			begun, requests := cluster.Members[0].Watches()
			rests := int64(time.Since(began) / (settings.Proof * 7 / 8))
			if requests > 1+proofTries*(rests+1) {
				t.Errorf("%d requests in %d rests", requests, rests)
			}
			seen.until(put(t, s, "a/c"))
			if begun != 1 {
				t.Errorf("%d streams for one watch", begun)
			}
		})
	}
}

// TestHastyProof: a member that says too early that it has told everything, as etcd 3.4 may, makes no watch lose what it has not told.
func TestHastyProof(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	settings.Proof = time.Second
	s := open(t, settings)
	first := put(t, s, "a")
	seen := watching(t, s, "", first)
	seen.until(put(t, s, "b"))
	member := cluster.Members[0]
	hasty := make(chan int64, 100)
	member.FilterWatches(func(answer *etcdserverpb.WatchResponse) bool {
		if answer.WatchId == clientv3.InvalidWatchID {
			hasty <- answer.Header.Revision
		}
		return len(answer.Events) == 0
	})
	withheld := put(t, s, "c")
	limit := time.After(time.Minute)
	for told := int64(0); told < withheld; {
		select {
		case told = <-hasty:
		case <-limit:
			t.Fatal("nobody has asked for progress in a minute")
		}
	}
	time.Sleep(100 * time.Millisecond) // on its way
	member.FilterWatches(nil)
	member.Clients().Drop()
	insist(t, s, "d", "") // its connection was dropped, too
	last, err := s.Get(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	seen.sawAll(s, first, last.Revision, "b", "c", "d")
}

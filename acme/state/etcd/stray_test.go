package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// TestStrays: a key that somebody has written in the place of a lock blocks it, and is named with what removes it; the keys of holders are not.
func TestStrays(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	s, c := open(t, settings), admin(t, cluster)
	folder := settings.Prefix + ".tmp-locks/"
	put := func(key string, options ...clientv3.OpOption) {
		t.Helper()
		if _, err := c.Put(t.Context(), key, "mine", options...); err != nil {
			t.Fatal(err)
		}
	}
	strays := func(count int) []state.Stray {
		t.Helper()
		list, err := s.Strays(t.Context())
		if err != nil || len(list) != count {
			t.Fatalf("%+v, %v", list, err)
		}
		return list
	}
	unlock := lock(t, s, "a/lock")
	release, err := s.Share(t.Context(), "b/lock")
	if err != nil {
		t.Fatal(err)
	}
	put(folder + "note") // blocks nothing
	strays(0)
	unlock()
	release()

	put(folder + "a/lock//by-hand")
	long, err := c.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	put(folder+"b/lock//alone-1", clientv3.WithLease(long.ID))
	list := strays(2)
	if a := list[0]; a.Lock != "a/lock" || a.Key != folder+"a/lock//by-hand" || a.Removal != "etcdctl del '"+folder+"a/lock//by-hand'" {
		t.Errorf("%+v", a)
	}
	if list[1].Lock != "b/lock" {
		t.Errorf("%+v", list[1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "a/lock"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("the lock was taken all the same: %v", err)
	}
	for _, stray := range list {
		if _, err := c.Delete(t.Context(), stray.Key); err != nil {
			t.Fatal(err)
		}
	}
	strays(0)
	lock(t, s, "a/lock")()

	put(folder + "a/lock//'; rm -rf /;\x1b[2J")
	if odd := strays(1)[0]; odd.Removal != "etcdctl del --prefix "+folder {
		t.Errorf("%+v", odd)
	}
}

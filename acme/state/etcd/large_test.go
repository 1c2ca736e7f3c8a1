package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// admin is etcd's own client, for what others do to a cluster.
func admin(t *testing.T, cluster *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fill puts values under a prefix: as many as it takes for the bytes.
func fill(t *testing.T, c *clientv3.Client, prefix string, megabytes int) {
	t.Helper()
	value := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	var filling sync.WaitGroup
	for worker := range 4 {
		filling.Go(func() {
			for i := worker; i < megabytes; i += 4 {
				if _, err := c.Put(t.Context(), fmt.Sprintf("%s%04d", prefix, i), value); err != nil {
					t.Error(err)
				}
			}
		})
	}
	filling.Wait()
}

// TestForeignKeys: what others have put before, behind, beside and into our keys is not sent to those who list a folder. With MXCERT_FLEET=long it
// is 100 MB.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	megabytes := 3
	if long() {
		megabytes = 20
	}
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	line, c := cluster.Members[0].Line(), admin(t, cluster)
	settings.Endpoints = []string{line.URL()}
	s := open(t, settings)
	for _, key := range []string{"a/1", "a/2/x", "a/2/y", "a/3"} {
		if err := s.Replace(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"/mxcert/v1/a", "zz", settings.Prefix + "b/", settings.Prefix + "a.", settings.Prefix + "a/2/deep/"} {
		fill(t, c, prefix, megabytes)
	}
	for _, odd := range []string{"//", "a//b", "a/../../b", "a/\xff", "a/x\x00y", "a/.tmp-x", "a/" + strings.Repeat("x", 256)} {
		if _, err := c.Put(t.Context(), settings.Prefix+odd, "odd"); err != nil {
			t.Fatal(err)
		}
	}
	before := line.Carried()
	if names, err := s.List("a"); err != nil || !slices.Equal(names, []string{"1", "2/", "3"}) {
		t.Errorf("%q, %v", names, err)
	}
	names, err := s.List("")
	if err != nil || !slices.Contains(names, "a/") || !slices.Contains(names, "b/") || slices.Contains(names, "") || slices.Contains(names, "/") {
		t.Errorf("%q, %v", names, err)
	}
	if carried := line.Carried() - before; carried > 64<<10 {
		t.Errorf("two lists took %d bytes", carried)
	}
	list, _, err := s.Below(t.Context(), "a")
	if err != nil || len(list) != 4+megabytes {
		t.Errorf("%d values, %v", len(list), err)
	}
	for _, v := range list {
		if !valid(v.Key) {
			t.Errorf("%q", v.Key)
		}
	}
}

// TestLargeFolder: a folder of many pages is read from one moment, while others change it and the history is compacted.
func TestLargeFolder(t *testing.T) {
	t.Parallel()
	const count = 3 * page
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	s, c := open(t, settings), admin(t, cluster)
	put := func(ctx context.Context, round int) (int64, error) { // all of them in a few transactions: the last one says the round
		var revision int64
		for from := 0; from < count; from += 100 {
			var ops []clientv3.Op
			for i := from; i < min(from+100, count); i++ {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sbig/%05d", settings.Prefix, i), fmt.Sprint(round)))
			}
			answer, err := c.Txn(ctx).Then(ops...).Commit()
			if err != nil {
				return 0, err
			}
			revision = answer.Header.Revision
		}
		return revision, nil
	}
	if _, err := put(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var changing sync.WaitGroup
	changing.Go(func() {
		for round := 1; ctx.Err() == nil; round++ {
			revision, err := put(ctx, round)
			if err == nil {
				_, err = c.Compact(ctx, revision)
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		names, err := s.List("big")
		if err != nil || len(names) != count {
			t.Errorf("%d names, %v", len(names), err)
		}
		list, revision, err := s.Below(t.Context(), "big")
		if err != nil || len(list) != count {
			t.Errorf("%d values, %v", len(list), err)
			continue
		}
		checkMoment(t, list, revision)
	}
	cancel()
	changing.Wait()
}

// checkMoment checks values that are written in their order, round after round: at one moment there are at most two rounds.
func checkMoment(t *testing.T, list []state.Versioned, revision int64) {
	t.Helper()
	first, _ := strconv.Atoi(string(list[0].Value))
	last := first
	for _, v := range list {
		round, err := strconv.Atoi(string(v.Value))
		if err != nil || round > last || round < first-1 || v.Revision > revision {
			t.Errorf("at revision %d: %s is %q of %d, behind one of round %d", revision, v.Key, v.Value, v.Revision, last)
		}
		last = round
	}
}

// TestCompacted: a watch that comes too late says so, and so does one of a store that was lost.
func TestCompacted(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	s := open(t, settings)
	var revision int64
	for i := range 10 {
		var err error
		if revision, err = s.Swap(t.Context(), "a/b", revision, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin(t, cluster).Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	if _, err := s.scan(t.Context(), s.full("a/b"), s.full("a/c"), revision-5, 1); !errors.Is(err, errCompacted) {
		t.Errorf("a page of what is compacted: %v", err) // then List and Below begin again
	}
	nothing := func([]state.Versioned) {}
	if err := s.Watch(t.Context(), "a", revision-5, nothing); !errors.Is(err, state.ErrChanged) {
		t.Errorf("compacted: %v", err)
	}
	before, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	watched := make(chan error, 1)
	go func() { watched <- s.Watch(t.Context(), "a", revision, nothing) }()
	cluster.Wipe()
	if err := <-watched; !errors.Is(err, state.ErrChanged) && !errors.Is(err, state.ErrAway) {
		t.Errorf("wiped: %v", err)
	}
	if err := s.Watch(t.Context(), "a", revision, nothing); !errors.Is(err, state.ErrChanged) {
		t.Errorf("later than the store: %v", err)
	}
	after, err := s.Identity(t.Context())
	if err != nil || after == before || after == "" {
		t.Errorf("the cluster was %q and is %q, %v", before, after, err)
	}
}

// TestQuota: a store that is full says so, and what to do; it can be read.
func TestQuota(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1, func(c *embed.Config) { c.QuotaBackendBytes = 4 << 20 })
	s := open(t, room(cluster))
	if err := s.Replace("small", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 20; i++ {
		err = s.Replace(fmt.Sprintf("large/%d", i), make([]byte, maxValue))
	}
	e, ok := errors.AsType[*state.Error](err)
	if !ok || !errors.Is(err, syscall.ENOSPC) || e.Kind() != "disk-full" || e.Hint() == "" || errors.Is(err, state.ErrAway) {
		t.Errorf("%v", err)
	}
	if _, err := s.Lock(t.Context(), "lock"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a lock: %v", err)
	}
	if value, err := s.Read("small"); err != nil || string(value) != "kept" {
		t.Errorf("%q, %v", value, err)
	}
}

// TestShared: the calls that only a shared store has.
func TestShared(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	s := open(t, room(cluster))
	first, err := s.Swap(t.Context(), "a", 0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Swap(t.Context(), "a", 0, []byte("2")); !errors.Is(err, state.ErrChanged) {
		t.Errorf("made twice: %v", err)
	}
	second, err := s.Swap(t.Context(), "a", first, nil)
	if err != nil || second <= first {
		t.Errorf("%d after %d, %v", second, first, err)
	}
	if _, err := s.Swap(t.Context(), "a", first, []byte("2")); !errors.Is(err, state.ErrChanged) {
		t.Errorf("an old revision: %v", err)
	}
	many := []string{"none", "a"}
	for i := range 150 {
		many = append(many, fmt.Sprintf("many/%d", i))
	}
	list, err := s.Many(t.Context(), many)
	if err != nil || len(list) != 152 || list[0].Revision != 0 || list[0].Key != "none" ||
		list[1].Revision != second || list[1].Value == nil || list[151].Key != "many/149" {
		t.Errorf("%+v, %v", list, err)
	}
	lease, err := s.Grant(t.Context(), 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Lend(t.Context(), "host/mx1/alive", []byte("x"), lease), s.Renew(t.Context(), lease)); err != nil {
		t.Fatal(err)
	}
	_, revision, err := s.Below(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	err = s.Watch(ctx, "host", revision, func(changed []state.Versioned) {
		if v := changed[0]; v.Key != "host/mx1/alive" || v.Value != nil || v.Revision <= revision {
			t.Errorf("%+v", changed)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the lease did not end: %v", err)
	}
	if err := s.Renew(t.Context(), lease); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("renewed after its end: %v", err)
	}
	if err := s.Lend(t.Context(), "host/mx1/alive", nil, lease); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lent after its end: %v", err)
	}
}

// Many large values that have changed before a watch begins come in one answer, which is larger than what gRPC takes by default.
func TestAWatchTakesLargeAnswers(t *testing.T) {
	cluster := etcdtest.Start(t, 1)
	s := open(t, room(cluster))
	_, revision, err := s.Below(t.Context(), "certificate")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, admin(t, cluster), s.prefix+"certificate/", 12)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := 0
	err = s.Watch(ctx, "certificate", revision, func(changes []state.Versioned) {
		if seen += len(changes); seen >= 12 {
			cancel()
		}
	})
	if seen < 12 {
		t.Errorf("%d changes were seen: %v", seen, err)
	}
}

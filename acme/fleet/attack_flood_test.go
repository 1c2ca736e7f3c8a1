package fleet

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/state/etcd/etcdtest"
)

// TestMain lets this program be a member of etcd, too.
func TestMain(m *testing.M) {
	etcdtest.Main()
	m.Run()
}

// 100 MB of foreign keys lie between those of the fleet: below certificates that nobody has, below one that they have, as hosts, orders and
// accounts; and so many as recipients that no host looks at all of them. The fleet works, with little memory, and says so.
func TestAFloodOfForeignKeys(t *testing.T) {
	w := newWorldAt(t, 2, func(t testing.TB) *etcdtest.Cluster { return etcdtest.StartProcesses(t, 1) }) // its memory is not that of the hosts
	a := w.host(0, "").run()
	s := w.stranger()
	const name = "mx.example"
	a.Merge(t.Context(), name, Wish{Names: []string{name}})
	first := a.issues(name, time.Now().Add(89*24*time.Hour))
	s.flood(100,
		"certificate/foreign%d.example/ec256", "certificate/"+name+"/foreign%d", "certificate/"+name+"/revoked/%d", "recipient/age1foreign%d",
		"host/foreign%d/seen", "recipient/foreign%d", "host/mx0/deployed/foreign%d", "order/foreign%d/ec256", "recipient/%d", "account/foreign%d",
		"usage/foreign%d", "recipient/x%d", "foreign/%d", "hosts/%d", "recipient/y%d")

	b := w.host(1, "")
	peak, stop := memoryPeak()
	b.run()
	b.Merge(t.Context(), name, Wish{Names: []string{name}})
	eventually(t, "a host that joins gets the certificate", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == first.Serial() })
	second := a.issues(name, time.Now().Add(90*24*time.Hour))
	eventually(t, "and the next one", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == second.Serial() })
	_, err := b.Overview(t.Context())
	must(t, err)
	stop()
	t.Logf("the hosts needed %d MB", peak.Load()>>20)
	if peak.Load() > 96<<20 { // two hosts, each with at most 16 MiB of a folder, and this once more while it is decoded; all of it would be 400
		t.Errorf("the hosts needed %d MB", peak.Load()>>20)
	}
	if !b.Health().Up || !b.hasFault("recipient", "16 MiB") {
		t.Errorf("the health is %+v", b.Health())
	}
	must(t, s.store.Remove("recipient"))
	must(t, w.host(1, b.dir).AddRecipient(t.Context(), newIdentity(t).Recipient(), "mx9"))
	eventually(t, "the report ends", func() bool { return b.Health().Up && !b.hasFault("16 MiB") })
}

// flood writes foreign values of 1 MiB to these places.
func (s *stranger) flood(count int, places ...string) {
	s.t.Helper()
	garbage := []byte(strings.Repeat("x", 1<<20-1))
	var writers sync.WaitGroup
	for part := range 4 {
		writers.Go(func() {
			for i := part; i < count; i += 4 {
				if err := s.store.Replace(fmt.Sprintf(places[i%len(places)], i), garbage); err != nil {
					s.t.Errorf("write: %v", err)
				}
			}
		})
	}
	writers.Wait()
}

// memoryPeak watches how much more memory is in use than now.
func memoryPeak() (peak *atomic.Int64, stop func()) {
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	peak = &atomic.Int64{}
	start := used()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), used()-start))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return peak, func() { cancel(); <-done }
}

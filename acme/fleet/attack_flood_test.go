package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
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
	if !counted(t) {
		return
	}
	w := newWorldAt(t, 2, func(t testing.TB) *etcdtest.Cluster { return etcdtest.StartProcesses(t, 1) }) // its memory is not that of the hosts
	a := w.host(0, "").run()
	s := w.stranger()
	const name = "mx.example"
	a.Merge(t.Context(), name, Wish{Names: []string{name}})
	first := a.issues(name, time.Now().Add(89*24*time.Hour))
	before := inUse()
	s.flood(100,
		"certificate/foreign%d.example/ec256", "certificate/"+name+"/foreign%d", "certificate/"+name+"/revoked/%d", "recipient/age1foreign%d",
		"host/foreign%d/seen", "recipient/foreign%d", "host/mx0/deployed/foreign%d", "order/foreign%d/ec256", "recipient/%d", "account/foreign%d",
		"usage/foreign%d", "recipient/x%d", "foreign/%d", "hosts/%d", "recipient/y%d")

	b := w.host(1, "")
	peak, stop := memoryPeak(before)
	b.run()
	b.Merge(t.Context(), name, Wish{Names: []string{name}})
	eventually(t, "a host that joins gets the certificate", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == first.Serial() })
	second := a.issues(name, time.Now().Add(90*24*time.Hour))
	eventually(t, "and the next one", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == second.Serial() })
	_, err := b.Overview(t.Context())
	must(t, err)
	stop()
	t.Logf("the hosts needed %d MB", peak.Load()>>20)
	// Two hosts, each with at most 16 MiB of a folder, and a page of 4 MiB in three forms: as it arrives, in one piece, decoded. All would be 300 MB.
	if peak.Load() > 60<<20 {
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

// stopsForGC is the setting of Go with which a collection of garbage stops the program: nothing is allocated meanwhile, and what is in use
// afterwards is exactly what is needed.
const stopsForGC = "gcstoptheworld=1"

// counted runs a test once more, in a process of its own whose memory can be counted exactly. It reports whether this is that process.
func counted(t *testing.T) bool {
	t.Helper()
	if strings.Contains(os.Getenv("GODEBUG"), stopsForGC) {
		return true
	}
	program, err := os.Executable()
	must(t, err)
	run := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
	run.Env = append(os.Environ(), "GODEBUG="+strings.TrimPrefix(os.Getenv("GODEBUG")+","+stopsForGC, ","))
	if said, err := run.CombinedOutput(); err != nil || !strings.Contains(string(said), "PASS") {
		t.Errorf("%v\n%s", err, said)
	}
	return false
}

// inUse returns how many bytes are in use.
func inUse() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// memoryPeak watches how much more memory is in use than at first.
func memoryPeak(first int64) (peak *atomic.Int64, stop func()) {
	peak = &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), inUse()-first))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return peak, func() { cancel(); <-done }
}

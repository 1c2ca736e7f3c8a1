package daemon

import (
	"slices"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// BenchmarkFleetChange measures how long after the end of an order the mail servers of all hosts of a fleet show the new certificate: three
// daemons with real handshakes, on one etcd. p50 and max are in milliseconds.
func BenchmarkFleetChange(b *testing.B) {
	c := newTown(b, "mx1", "mx2", "mx3")
	for _, h := range c.hosts {
		running := h.daemon()
		b.Cleanup(func() { running.stop() }) // before its files are removed
	}
	before := c.awaitOther(b, "")
	var took []time.Duration
	for b.Loop() {
		var mu sync.Mutex
		var issued time.Time
		asked, ended := c.hosts[0], make(chan error, 1)
		go func() {
			_, err := asked.asks(b.Context(), Order{Force: true}, func(_, stage, _ string) {
				mu.Lock()
				defer mu.Unlock()
				if stage == "issued" {
					issued = time.Now()
				}
			})
			ended <- err
		}()
		before = c.awaitOther(b, before)
		shown := time.Now()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		mu.Lock()
		took = append(took, shown.Sub(issued))
		mu.Unlock()
		if c.hosts[0].look().Code != report.CodeOK {
			b.Fatal("the host that has ordered does not serve it")
		}
	}
	slices.Sort(took)
	b.ReportMetric(medianOf(took), "p50-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(0, "ns/op")
}

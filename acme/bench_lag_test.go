package acme_test

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// BenchmarkLaggingServer: a secondary serves the records some seconds after the update. late-ms is how much later the CA is
// asked to look: the median, and the most; looks is how often the secondary was asked for TXT.
func BenchmarkLaggingServer(b *testing.B) {
	for _, lag := range []time.Duration{2 * time.Second, 6 * time.Second} {
		b.Run("lag="+lag.String(), func(b *testing.B) {
			w := newWorld(b, lab.Options{Secondaries: 1})
			w.Secondaries[0].SetFaults(nameserver.Faults{Lag: lag, UpdateRcode: dns.RcodeRefused})
			var late []float64
			looks := 0
			for b.Loop() {
				w.World.ResetLog()
				w.CA.ResetRequests()
				if _, err := w.issue(b.Context(), func(r *acme.Request) {
					r.Urgent = true
					r.Patience = time.Minute
				}); err != nil {
					b.Fatal(err)
				}
				requests := w.CA.Requests()
				first := slices.IndexFunc(requests, func(r ca.Request) bool { return r.Endpoint == ca.Challenge })
				late = append(late, float64(requests[first].Time.Sub(w.World.Updates()[0].Time)-lag)/float64(time.Millisecond))
				for _, q := range w.World.Queries() {
					if q.Server == w.Secondaries[0].Address() && q.Type == dns.TypeTXT {
						looks++
					}
				}
				if err := w.lineage(b).DropOrder(bundle.EC256); err != nil {
					b.Fatal(err)
				}
				time.Sleep(lag) // until the secondary has lost the records again
			}
			slices.Sort(late)
			b.ReportMetric(late[len(late)/2], "late-ms")
			b.ReportMetric(late[len(late)-1], "most-late-ms")
			b.ReportMetric(float64(looks)/float64(len(late)), "looks")
			b.ReportMetric(0, "ns/op")
		})
	}
}

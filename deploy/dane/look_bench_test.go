package dane_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/deploy/dane"
)

// BenchmarkLook compares a look at 2, 5 and 13 servers with the answer of the slowest of them.
func BenchmarkLook(b *testing.B) {
	const slowest = 300 * time.Millisecond
	for _, servers := range []int{2, 5, 13} {
		b.Run(fmt.Sprint(servers, "-servers"), func(b *testing.B) {
			w := newWorld(b, servers)
			w.check(w.Add(ownName + " TLSA " + key1))
			for i, s := range w.servers {
				s.SetFaults(nameserver.Faults{Delay: slowest * time.Duration(i+1) / time.Duration(servers)})
			}
			for b.Loop() {
				if v := w.look(dane.Settings{}); v.Fault() != "" {
					b.Fatal(v.Fault())
				}
			}
			ratio := b.Elapsed().Seconds() / float64(b.N) / slowest.Seconds()
			b.ReportMetric(ratio, "times-the-slowest")
			if ratio > 1.2 {
				b.Errorf("a look takes %.2f times the slowest answer", ratio)
			}
		})
	}
}

// BenchmarkLooks compares the questions of one certificate with those of 200 whose records are in the same zone. Each certificate has its own
// resolver, as in a pass.
func BenchmarkLooks(b *testing.B) {
	alone := 0.0
	for _, certificates := range []int{1, 200} {
		b.Run(fmt.Sprint(certificates, "-certificates"), func(b *testing.B) {
			w := newWorld(b, 2)
			asked, rounds := 0, 0
			for b.Loop() {
				w.ResetLog()
				w.pass(b.Context(), certificates, new(resolve.Zones))
				asked, rounds = asked+len(w.Queries()), rounds+1
			}
			each := float64(asked) / float64(rounds) / float64(certificates)
			b.ReportMetric(each, "questions/certificate")
			if certificates == 1 {
				alone = each
			}
			b.ReportMetric(each/alone, "times-one")
			if each > 2*alone {
				b.Errorf("%.1f questions for each certificate, and %.1f for one alone", each, alone)
			}
		})
	}
}

// pass looks at one owner of each certificate.
func (w *world) pass(ctx context.Context, certificates int, zones *resolve.Zones) {
	for i := range certificates {
		o := dane.Owner{Host: fmt.Sprintf("mx%d.example.org", i), Port: 25}
		if v := dane.Look(ctx, w.ask().Share(zones), o, dane.Settings{}, state.Instant{At: time.Now()}); v.Fault() != "" {
			w.Fatal(v.Fault())
		}
	}
}

// TestSharedZones: the second certificate in a zone costs the questions about its own name only, and its records are never remembered.
func TestSharedZones(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	zones := new(resolve.Zones)
	w.pass(t.Context(), 1, zones)
	first := len(w.Queries())
	w.ResetLog()
	w.pass(t.Context(), 1, zones)
	if second := w.Queries(); len(second) != 4 { // TLSA and SOA at the resolver, TLSA at two servers
		t.Errorf("%d questions, and %d before: %+v", len(second), first, second)
	}
	w.check(w.Add("_25._tcp.mx0.example.org. TLSA " + key1))
	v := dane.Look(t.Context(), w.ask().Share(zones), dane.Owner{Host: "mx0.example.org", Port: 25}, dane.Settings{}, state.Instant{})
	if sets(v) != "1m0s 3 1 1 01" || len(v.Recursive.Records) != 1 {
		t.Errorf("after a change: %q, %+v", sets(v), v.Recursive)
	}
}

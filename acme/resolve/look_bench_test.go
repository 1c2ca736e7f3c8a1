package resolve_test

import (
	"fmt"
	"sync"
	"testing"

	"mxcert/acme/resolve"
)

// BenchmarkLook asks all that a sender asks about a domain with 1 and 20 MX hosts, three times at once: the questions beside the least that
// are needed, which is one for each name and type, and one about the root.
func BenchmarkLook(b *testing.B) {
	for _, hosts := range []int{1, 20} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			w := judged(b)
			var lines []string
			for i := range hosts {
				lines = append(lines, fmt.Sprintf("mail.test. 60 IN MX %d h%d.mail.test.", i, i), fmt.Sprintf("h%d.mail.test. 60 IN A 192.0.2.1", i))
			}
			if err := w.AddZone("mail.test"); err != nil {
				b.Fatal(err)
			}
			if err := w.Add(lines...); err != nil {
				b.Fatal(err)
			}
			s := listen(b, w, "127.0.0.1:0")
			w.ResetLog()
			for b.Loop() {
				r := ask(s)
				var wait sync.WaitGroup
				for range 3 {
					wait.Go(func() { lookAtAll(b, r) })
				}
				wait.Wait()
			}
			least := float64(2 + 3*hosts)
			ratio := float64(len(w.Queries())) / float64(b.N) / least
			if len(w.Queries()) < 5000 && ratio > 1.2 {
				b.Errorf("%.2f times the least number of questions", ratio)
			}
			b.ReportMetric(float64(len(w.Queries()))/float64(b.N), "questions/op")
		})
	}
}

func lookAtAll(b *testing.B, r *resolve.Resolver) {
	set := r.LookMX(b.Context(), "mail.test")
	if set.Err != nil {
		b.Error(set.Err)
	}
	var wait sync.WaitGroup
	for _, mx := range set.Records {
		wait.Go(func() { r.LookIPv4(b.Context(), mx.Host) })
		wait.Go(func() { r.LookIPv6(b.Context(), mx.Host) })
		wait.Go(func() { r.LookTLSA(b.Context(), "_25._tcp."+mx.Host) })
	}
	wait.Wait()
}

package survey

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"
)

// BenchmarkEndpoints looks at 1, 20 and 200 endpoints that delay their greeting, in a process of its own. It fails if the look takes longer
// than 1.3 × the slowest endpoint, if an endpoint of 200 costs more memory than one of 20, or if more than 1.2 × the necessary questions
// are asked.
func BenchmarkEndpoints(b *testing.B) {
	const slow, quick = time.Second, 200 * time.Millisecond
	w, ca := newWorld(b, "one A 127.6.1.1", "one MX 1 one"), newPKI(b)
	config := &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(b))}}
	for i := range 200 {
		p := &peer{config: config, delay: quick + time.Duration(i%5)*quick}
		if i == 0 {
			p.delay = slow
		}
		p.listen(b, fmt.Sprintf("127.6.1.%d", i+1), w.port)
	}
	for _, n := range []int{20, 200} {
		for i := range n {
			check(b, w.dns.Add(fmt.Sprintf("mx%d.d%d.example.org. A 127.6.1.%d", i, n, i+1), fmt.Sprintf("d%d.example.org. MX %d mx%d.d%d.example.org.", n, i, i, n)))
		}
	}
	look := func(domain string) (size int, took time.Duration, questions int) {
		w.dns.ResetLog()
		size, took = measure(b, "MXCERT_TEST_LOOK="+domain, "MXCERT_TEST_LIMIT=1m", "MXCERT_TEST_RESOLVER="+w.server.Address(), fmt.Sprintf("MXCERT_TEST_PORT=%d", w.port))
		return size, took, len(w.dns.Queries())
	}
	base, slowest, _ := look("one.example.org")
	each := 0.0
	for _, n := range []int{1, 20, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			domain := map[int]string{1: "one.example.org", 20: "d20.example.org", 200: "d200.example.org"}[n]
			for b.Loop() {
				size, took, questions := look(domain)
				least := 2 + 3*n // MX, TXT; A, AAAA and TLSA of each host
				wall, asked, more := float64(took)/float64(slowest), float64(questions)/float64(least), float64(size-base)/float64(max(n-1, 1))
				b.ReportMetric(wall, "wall/slowest")
				b.ReportMetric(asked, "questions/least")
				b.ReportMetric(more, "KiB/endpoint")
				if wall > 1.3 || asked > 1.2 || n == 200 && more > 1.3*each {
					b.Errorf("wall %.2f × the slowest endpoint, questions %.2f × the least, %.0f KiB for each endpoint (20: %.0f)", wall, asked, more, each)
				}
				each = more
			}
		})
	}
}

package pass

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/cmd/mxcert/internal/report"
)

// BenchmarkRenewalWithPublish compares renewals in steady state of mode publish with those of mode off, in turn and in one run. The yardstick
// is a ratio of 1.1: the look at the records runs beside the steps of the renewal.
func BenchmarkRenewalWithPublish(b *testing.B) {
	without, with := newDANEHost(b, `mode: "off"`, lab.Options{}), newDANEHost(b, publishing, lab.Options{})
	without.pass(report.CodeOK, renew)
	with.pass(report.CodeOK, renew)
	with.steady()
	timed := func(h *daneHost) time.Duration {
		began := time.Now()
		h.pass(report.CodeOK, atOnce)
		return time.Since(began)
	}
	var off, publish time.Duration
	for b.Loop() {
		off += timed(without)
		publish += timed(with)
	}
	b.ReportMetric(float64(publish)/float64(off), "ratio")
	b.ReportMetric(float64(off.Milliseconds())/float64(b.N), "off-ms")
}

// BenchmarkIdlePassWithPublish does the same for passes that find nothing to do.
func BenchmarkIdlePassWithPublish(b *testing.B) {
	without, with := newDANEHost(b, `mode: "off"`, lab.Options{}), newDANEHost(b, publishing, lab.Options{})
	without.pass(report.CodeOK, renew)
	with.pass(report.CodeOK, renew)
	with.steady()
	var off, publish time.Duration
	for b.Loop() {
		began := time.Now()
		without.pass(report.CodeOK, byDaemon)
		between := time.Now()
		with.pass(report.CodeOK, byDaemon)
		off, publish = off+between.Sub(began), publish+time.Since(between)
	}
	b.ReportMetric(float64(publish-off)/float64(b.N)/1e6, "more-ms")
}

// BenchmarkDNSOfPasses compares what idle passes of many certificates in one zone ask DNS with what one asks, in mode publish and in steady
// state, each certificate with its own name and server. The yardstick is twice the questions of one, for each.
func BenchmarkDNSOfPasses(b *testing.B) {
	const most = 200
	h := newDANEHost(b, publishing, lab.Options{CA: ca.Options{SkipValidation: true}})
	h.crowd(most)
	for range 3 { // orders, records, and what follows
		h.daemonPasses(most)
	}
	var one, all float64
	for b.Loop() {
		one += h.daemonPasses(1)
		all += h.daemonPasses(most)
	}
	b.ReportMetric(one/float64(b.N), "questions-of-one")
	b.ReportMetric(all/most/float64(b.N), "questions-for-each")
	b.ReportMetric(all/most/one, "ratio")
}

// crowd adds certificates until there are n.
func (h *daneHost) crowd(n int) {
	h.t.Helper()
	var more strings.Builder
	for i := 1; i < n; i++ {
		pair := smtpd.Pair{Certificate: h.Path("tls", fmt.Sprintf("mx%d.crt", i)), PrivateKey: h.Path("tls", fmt.Sprintf("mx%d.key", i))}
		server, err := smtpd.Start(smtpd.Options{Pairs: []smtpd.Pair{pair}})
		h.check(err)
		h.t.Cleanup(func() { _ = server.Close() })
		h.check(h.World.Add(fmt.Sprintf("mx%d.example.org. A 127.0.0.1", i)))
		_, port, _ := net.SplitHostPort(server.Address())
		fmt.Fprintf(&more, "  - name: mx%d\n    domains: [mx%d.example.org]\n    dane: {%s, hold: 0s, ttl: 1h, ports: [%s]}\n    deploy:\n      - files: {certificate: %q, private_key: %q}\n    verify: {endpoints: [%q]}\n",
			i, i, publishing, port, pair.Certificate, pair.PrivateKey, server.Address())
	}
	h.edit("state: ", more.String()+"state: ")
}

// daemonPasses makes a pass of each of the first n certificates in one process, and returns how much DNS was asked.
func (h *daneHost) daemonPasses(n int) (questions float64) {
	h.t.Helper()
	r := h.runner()
	h.World.ResetLog()
	for _, c := range r.Host.Certificates[:n] {
		if done := r.Run(h.t.Context(), c, byDaemon, func(string, string) {}); done.Code != report.CodeOK {
			h.t.Fatalf("%s: %+v", c.Name, done.Error)
		}
	}
	return float64(len(h.World.Queries()))
}

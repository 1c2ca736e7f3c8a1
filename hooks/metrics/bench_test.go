package metrics_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"mxcert/hooks/metrics"
)

// many returns what is known about n certificates, each with what a mail host has.
func many(n int) metrics.Snapshot {
	s := metrics.Snapshot{Release: "1.0", ConfigGood: true, TLSAStates: []string{"blocked", "unprobed", "preparing", "publishing", "spreading", "holding", "rolling", "retiring", "steady"}}
	for i := range n {
		name := fmt.Sprintf("mx%04d", i)
		s.Configured = append(s.Configured, name)
		s.Certificates = append(s.Certificates, metrics.Certificate{Name: name, Keys: []metrics.Key{{Key: "ec256", NotBefore: day(1), NotAfter: day(31)}},
			Endpoints: []metrics.Endpoint{{Address: "127.0.0.1:25", Key: "ec256", Matches: true, NotAfter: day(31)}, {Address: "[::1]:25", Key: "ec256", Matches: true, NotAfter: day(31)}},
			Due:       day(20), LastSuccess: day(2), Took: time.Second, Owners: []metrics.Owner{{Host: name + ".example.org", Port: 25, Matches: true}}, TLSA: []metrics.KeyState{{Key: "ec256", State: "steady"}}})
	}
	return s
}

// counting returns a source that knows a snapshot and counts for it.
func counting(snapshot metrics.Snapshot) *metrics.Source {
	s := &metrics.Source{}
	s.Count(snapshot.Configured, []string{"exim4.service"}, []string{"desk"})
	s.Set(snapshot)
	return s
}

// plain returns a registry of the library that has the same numbers, as most programs have them. It is the yardstick.
func plain(b *testing.B, s *metrics.Source) http.Handler {
	b.Helper()
	families, err := s.Gather()
	if err != nil {
		b.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	for _, f := range families {
		registry.MustRegister(vector(f))
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
}

// vector returns the samples of a family as the library keeps them.
func vector(f *dto.MetricFamily) prometheus.Collector {
	var names []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.GetName(), Help: f.GetHelp()}, names)
	counters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.GetName(), Help: f.GetHelp()}, names)
	for _, m := range f.GetMetric() {
		var values []string
		for _, l := range m.GetLabel() {
			values = append(values, l.GetValue())
		}
		if m.Counter != nil {
			counters.WithLabelValues(values...).Add(m.GetCounter().GetValue())
		} else {
			gauges.WithLabelValues(values...).Set(m.GetGauge().GetValue())
		}
	}
	if f.GetType() == dto.MetricType_COUNTER {
		return counters
	}
	return gauges
}

// processor returns the time that this process has computed, with its clients.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inTurn returns a function that gives a source one snapshot after another.
func inTurn(s *metrics.Source, list ...metrics.Snapshot) func() {
	i := 0
	return func() {
		i++
		s.Set(list[i%len(list)])
	}
}

// BenchmarkScrape is a scrape over HTTP of 1, 100 and 1,000 certificates with two endpoints and TLSA records: at rest, after a pass over one of
// them, after all numbers have changed, and, as a yardstick, of a registry of the library with the same numbers. The goal is 20 ms for 1,000.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		snapshot, passed, others := many(n), many(n), many(n)
		passed.Certificates[n/2].LastSuccess, passed.Certificates[n/2].Took = day(3), 2*time.Second
		for i := range others.Certificates {
			c := &others.Certificates[i]
			c.LastSuccess, c.Due, c.Took, c.Keys[0].NotBefore, c.Keys[0].NotAfter = day(4), day(21), time.Minute, day(2), day(30)
			c.Endpoints[0].Matches, c.Endpoints[1].NotAfter, c.Owners[0].Matches, c.TLSA[0].State, c.Unknown = false, day(30), false, "holding", 1
		}
		s := counting(snapshot)
		server := metrics.NewServer(slog.New(slog.DiscardHandler), s, nil).Handler()
		for _, c := range []struct {
			name    string
			handler http.Handler
			before  func()
		}{{"at rest", server, func() {}}, {"one changed", server, inTurn(s, snapshot, passed)}, {"all changed", server, inTurn(s, snapshot, others)}, {"registry", plain(b, s), func() {}}} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				web := httptest.NewServer(c.handler)
				defer web.Close()
				b.ReportAllocs()
				begun := processor()
				for b.Loop() {
					c.before()
					answer, err := web.Client().Get(web.URL + "/metrics") //nolint:noctx // a benchmark
					if err != nil {
						b.Fatal(err)
					}
					size, err := io.Copy(io.Discard, answer.Body)
					if err != nil {
						b.Fatal(err)
					}
					_ = answer.Body.Close() // it is read
					b.ReportMetric(float64(size), "bytes/scrape")
				}
				b.ReportMetric(float64(processor()-begun)/float64(b.N)/1e6, "cpu-ms/scrape")
			})
		}
	}
}

package metrics

import (
	"cmp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Gather returns all metrics; it is that of prometheus.Gatherer. A scrape takes the numbers from the snapshot and lets them go: with the
// objects that a prometheus.Registry keeps for each sample, a thousand certificates would double the memory of the daemon.
func (s *Source) Gather() ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var families []*dto.MetricFamily
	for _, m := range Catalogue() {
		b := builder{metric: m}
		if m.Counter {
			s.gatherCounters(&b)
		} else {
			m.samples(&s.snapshot, b.add)
		}
		family := b.family()
		for _, c := range s.carried {
			if c.metric == m.Name {
				family.Metric = append(family.Metric, c.sample)
			}
		}
		if len(family.Metric) > 0 {
			families = append(families, family)
		}
	}
	return families, nil
}

// gatherCounters adds the counters of a metric, ordered by their labels. The caller holds s.mu.
func (s *Source) gatherCounters(b *builder) {
	var list []count
	for c := range s.counters {
		if c.metric == b.metric.Name {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b count) int { return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.result, b.result)) })
	for _, c := range list {
		b.add(s.counters[c], c.label, c.result)
	}
}

// builder collects the samples of a metric.
type builder struct {
	metric Metric
	values []float64
	labels []string // those of all samples, one after another
}

func (b *builder) add(value float64, labels ...string) {
	if n := len(b.metric.Labels); len(b.values) > 0 && n > 0 && slices.Equal(b.labels[len(b.labels)-n:], labels) {
		return // of an endpoint that is listed twice
	}
	b.values = append(b.values, value)
	b.labels = append(b.labels, labels...)
}

// family returns the samples in the form of the library. Each kind of object is allocated once for all samples.
func (b *builder) family() *dto.MetricFamily {
	kind, n := dto.MetricType_GAUGE, len(b.values)
	if b.metric.Counter {
		kind = dto.MetricType_COUNTER
	}
	family := &dto.MetricFamily{Name: &b.metric.Name, Help: &b.metric.Help, Type: &kind, Metric: make([]*dto.Metric, n)}
	metrics, pairs, places := make([]dto.Metric, n), make([]dto.LabelPair, len(b.labels)), make([]*dto.LabelPair, len(b.labels))
	gauges, counters := make([]dto.Gauge, n), []dto.Counter(nil)
	if b.metric.Counter {
		gauges, counters = nil, make([]dto.Counter, n)
	}
	width := len(b.metric.Labels)
	for i := range b.values {
		m := &metrics[i]
		if b.metric.Counter {
			counters[i].Value, m.Counter = &b.values[i], &counters[i]
		} else {
			gauges[i].Value, m.Gauge = &b.values[i], &gauges[i]
		}
		for j := i * width; j < (i+1)*width; j++ {
			b.labels[j] = strings.ToValidUTF8(b.labels[j], "\uFFFD")
			pairs[j].Name, pairs[j].Value, places[j] = &b.metric.Labels[j-i*width], &b.labels[j], &pairs[j]
		}
		m.Label, family.Metric[i] = places[i*width:(i+1)*width:(i+1)*width], m
	}
	return family
}

package metrics

import (
	"hash/maphash"
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// Gather returns all metrics; it is that of prometheus.Gatherer.
func (s *Source) Gather() ([]*dto.MetricFamily, error) {
	c := s.contents()
	var families []*dto.MetricFamily
	for _, m := range Catalogue() {
		if family := c.family(&m, 0); len(family.Metric) > 0 {
			families = append(families, family)
		}
	}
	return families, nil
}

// contents is what a source holds at one moment.
type contents struct {
	version  uint64
	snapshot Snapshot
	carried  []carried
	counters map[string][]tally
}

// contents returns what the source holds. Nothing that counts waits while a scrape works with it.
func (s *Source) contents() *contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	counters := maps.Clone(s.counters)
	for metric, list := range counters {
		counters[metric] = slices.Clone(list)
	}
	return &contents{s.version, s.snapshot, s.carried, counters}
}

// family returns a metric with its samples in the form of the library. n is how many there are; it may be wrong.
func (c *contents) family(m *Metric, n int) *dto.MetricFamily {
	b := &builder{labels: m.Labels, family: &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: dto.MetricType_GAUGE.Enum()}}
	if m.Counter {
		b.family.Type = dto.MetricType_COUNTER.Enum()
	}
	b.family.Metric = make([]*dto.Metric, 0, n)
	b.metrics.reserve(n)
	b.lists.reserve(n * len(m.Labels))
	c.samples(m, b)
	return b.family
}

// digest returns a number that differs if the samples of a metric do, and how many there are.
func (c *contents) digest(m *Metric, seed maphash.Seed) (sum uint64, n int) {
	b := &builder{}
	b.digest.SetSeed(seed)
	c.samples(m, b)
	return b.digest.Sum64(), b.noted
}

// samples has a builder add the samples of a metric.
func (c *contents) samples(m *Metric, b *builder) {
	if !m.Counter {
		m.samples(&c.snapshot, b)
	}
	for _, t := range c.counters[m.Name] {
		for i, result := range countable[m.Name] {
			b.add(t.times[i], t.label, result)
		}
	}
	for _, old := range c.carried {
		if old.metric == m.Name {
			b.add(old.value, old.labels...)
		}
	}
}

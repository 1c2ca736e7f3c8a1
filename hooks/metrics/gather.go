package metrics

import (
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Gather returns all metrics; it is that of prometheus.Gatherer. The caller must not change them. A scrape takes the numbers from the snapshot
// and lets them go: with the objects that a prometheus.Registry keeps for each sample, a thousand certificates would double the memory of the
// daemon. Samples share what they have in common, such as the label of their certificate: 20,000 of them then take 3 MB and not 13.
func (s *Source) Gather() ([]*dto.MetricFamily, error) {
	snapshot, carried, counters := s.copies()
	b := &builder{pairs: make(map[pair]*dto.LabelPair, len(snapshot.Certificates))}
	var families []*dto.MetricFamily
	for _, m := range Catalogue() {
		b.begin(m)
		if m.Counter {
			for _, t := range counters[m.Name] {
				for i, result := range countable[m.Name] {
					b.add(t.times[i], t.label, result)
				}
			}
		} else {
			m.samples(&snapshot, b)
		}
		family := b.family
		for _, c := range carried {
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

// copies returns what the source holds at this moment. Those who count do not wait for a scrape.
func (s *Source) copies() (Snapshot, []carried, map[string][]tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counters := maps.Clone(s.counters)
	for metric, list := range counters {
		counters[metric] = slices.Clone(list)
	}
	return s.snapshot, s.carried, counters
}

// builder makes families of samples in the form of the library.
type builder struct {
	metric Metric
	family *dto.MetricFamily
	size   int // how many samples the family before had

	pairs   map[pair]*dto.LabelPair // of all families
	samples slab[dto.Metric]
	labels  slab[dto.LabelPair]
	lists   slab[*dto.LabelPair]
	gauges  slab[gauge]
	last    *gauge // of the sample before
	counts  slab[count]
}

// pair is a label with its value.
type pair struct{ name, value string }

// gauge and count are values with the number that they point to.
type (
	gauge struct {
		dto    dto.Gauge
		number float64
	}
	count struct {
		dto    dto.Counter
		number float64
	}
)

// begin begins a family.
func (b *builder) begin(m Metric) {
	if b.family != nil {
		b.size = len(b.family.Metric)
	}
	kind := dto.MetricType_GAUGE
	if m.Counter {
		kind = dto.MetricType_COUNTER
	}
	b.metric = m
	b.family = &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: &kind, Metric: make([]*dto.Metric, 0, b.size)}
}

// add adds a sample. The labels are in the order of Metric.Labels. One that has the labels of the sample before is left out: an endpoint may be
// listed twice.
func (b *builder) add(value float64, labels ...string) {
	var before []*dto.LabelPair
	if n := len(b.family.Metric); n > 0 {
		before = b.family.Metric[n-1].Label
	}
	list := b.lists.take(len(labels))
	same := len(before) > 0
	for i, label := range labels {
		if before != nil && *before[i].Value == label {
			list[i] = before[i]
			continue
		}
		list[i] = b.label(b.metric.Labels[i], label)
		same = same && list[i] == before[i]
	}
	if same {
		return
	}
	m := &b.samples.take(1)[0]
	m.Label = list
	if b.metric.Counter {
		c := &b.counts.take(1)[0]
		c.number, c.dto.Value = value, &c.number
		m.Counter = &c.dto
	} else {
		m.Gauge = b.gauge(value)
	}
	b.family.Metric = append(b.family.Metric, m)
}

// label returns a label that all samples share.
func (b *builder) label(name, value string) *dto.LabelPair {
	p := pair{name, strings.ToValidUTF8(value, "\uFFFD")}
	l := b.pairs[p]
	if l == nil {
		l = &b.labels.take(1)[0]
		l.Name, l.Value = &p.name, &p.value
		b.pairs[p] = l
	}
	return l
}

// gauge returns a value that samples which follow each other share.
func (b *builder) gauge(value float64) *dto.Gauge {
	if b.last == nil || b.last.number != value {
		b.last = &b.gauges.take(1)[0]
		b.last.number, b.last.dto.Value = value, &b.last.number
	}
	return &b.last.dto
}

// slab allocates many objects at a time.
type slab[T any] struct {
	free []T
	size int
}

// take returns n new objects, of which nothing can be appended to.
func (s *slab[T]) take(n int) []T {
	if len(s.free) < n {
		s.size = max(n, 8, min(2*s.size, 512))
		s.free = make([]T, s.size)
	}
	taken := s.free[:n:n]
	s.free = s.free[n:]
	return taken
}

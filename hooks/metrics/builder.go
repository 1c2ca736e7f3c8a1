package metrics

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// builder takes samples, and makes a family of them in the form of the library or, without one, a digest. Samples that follow each other share
// what they have in common, such as the label of their certificate, and many objects are allocated at a time.
type builder struct {
	digest maphash.Hash
	noted  int // samples of the digest
	family *dto.MetricFamily
	labels []string // their names

	number  *float64 // of the sample before
	metrics slab[dto.Metric]
	gauges  slab[dto.Gauge]
	counts  slab[dto.Counter]
	numbers slab[float64]
	pairs   slab[dto.LabelPair]
	lists   slab[*dto.LabelPair]
	texts   slab[string]
}

// add adds a sample. The labels are in the order of Metric.Labels. One that has the labels of the sample before is left out: an endpoint may be
// listed twice.
func (b *builder) add(value float64, labels ...string) {
	if b.family == nil {
		b.note(value, labels)
		return
	}
	list, repeated := b.list(labels)
	if repeated {
		return
	}
	before := b.number
	if before == nil || *before != value {
		b.number = b.numbers.one()
		*b.number = value
	}
	m := b.metrics.one()
	m.Label = list
	switch {
	case b.family.GetType() == dto.MetricType_COUNTER:
		m.Counter = b.counts.one()
		m.Counter.Value = b.number
	case b.number == before:
		m.Gauge = b.family.Metric[len(b.family.Metric)-1].Gauge
	default:
		m.Gauge = b.gauges.one()
		m.Gauge.Value = b.number
	}
	b.family.Metric = append(b.family.Metric, m)
}

// list returns labels with their names. They are repeated if the sample before has the same.
func (b *builder) list(labels []string) (list []*dto.LabelPair, repeated bool) {
	var before []*dto.LabelPair
	if n := len(b.family.Metric); n > 0 {
		before = b.family.Metric[n-1].Label
		repeated = len(labels) > 0
	}
	list = b.lists.take(len(labels))
	for i, label := range labels {
		label = strings.ToValidUTF8(label, "\uFFFD")
		if before != nil && before[i].GetValue() == label {
			list[i] = before[i]
			continue
		}
		repeated = false
		text := b.texts.one()
		*text = label
		list[i] = b.pairs.one()
		list[i].Name, list[i].Value = &b.labels[i], text
	}
	return list, repeated
}

// note adds a sample to the digest. Its parts are separated, so that no two samples have the same bytes.
func (b *builder) note(value float64, labels []string) {
	b.noted++
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], math.Float64bits(value))
	_, _ = b.digest.Write(number[:]) // never fails, like the others
	for _, label := range labels {
		binary.LittleEndian.PutUint64(number[:], uint64(len(label)))
		_, _ = b.digest.Write(number[:])
		_, _ = b.digest.WriteString(label)
	}
}

// slab allocates many objects at a time.
type slab[T any] struct {
	free []T
	size int
}

// reserve makes room for n objects.
func (s *slab[T]) reserve(n int) { s.free = make([]T, n) }

// take returns new objects, to which nothing can be appended.
func (s *slab[T]) take(n int) []T {
	if len(s.free) < n {
		s.size = max(n, min(2*s.size, 256), 4)
		s.free = make([]T, s.size)
	}
	taken := s.free[:n:n]
	s.free = s.free[n:]
	return taken
}

func (s *slab[T]) one() *T { return &s.take(1)[0] }

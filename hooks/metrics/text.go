package metrics

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/prometheus/common/expfmt"
)

// textType is the media type of a text.
var textType = string(expfmt.NewFormat(expfmt.TypeTextPlain)) //nolint:gochecknoglobals // a constant

// text keeps the metrics as they are sent. A pass over one certificate changes few metrics, and between passes nothing changes: only metrics whose
// samples are others than the last time are encoded. So a scrape costs little, and a daemon at rest makes no garbage because of it. The encoder is
// that of the library.
type text struct {
	mu      sync.Mutex
	seed    maphash.Seed
	version uint64   // of the source; 0 if nothing is encoded yet
	parts   [][]byte // in the order of the catalogue
	digests []uint64 // of the samples of each part
}

// Text returns the metrics of this moment in the text format of Prometheus, one metric after another. The caller must not change them.
func (s *Source) Text() ([][]byte, error) {
	t := &s.text
	t.mu.Lock()
	defer t.mu.Unlock()
	if version := s.now(); version == t.version && version > 0 {
		return t.parts, nil
	}
	list, c := Catalogue(), s.contents()
	parts, digests := make([][]byte, len(list)), make([]uint64, len(list)) // others may still send the old parts
	if t.parts == nil {
		t.seed = maphash.MakeSeed()
	}
	var buffer bytes.Buffer
	for i := range list {
		var samples int
		digests[i], samples = c.digest(&list[i], t.seed)
		if t.parts != nil && digests[i] == t.digests[i] {
			parts[i] = t.parts[i]
			continue
		}
		family := c.family(&list[i], samples)
		if len(family.Metric) == 0 {
			continue
		}
		buffer.Reset()
		if t.parts != nil {
			buffer.Grow(len(t.parts[i]) + 1024)
		}
		if _, err := expfmt.MetricFamilyToText(&buffer, family); err != nil {
			return nil, err
		}
		parts[i] = bytes.Clone(buffer.Bytes())
	}
	t.version, t.parts, t.digests = c.version, parts, digests
	return parts, nil
}

// now returns the version of the numbers.
func (s *Source) now() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

package metrics

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	// mostRead limits how much of an earlier textfile is read, in bytes.
	mostRead = 32 << 20
	// leftover is how old a temporary file is that nobody will rename any more.
	leftover = 10 * time.Minute
	// unfinished ends the names of temporary files: a copy of somebody, such as mxcert.prom20261130, is none.
	unfinished = ".new"
)

// WriteFile replaces a textfile of node_exporter: its mode is 0644, and its readers see the old numbers or the new ones. The temporary file is
// in the same directory; its name does not end in .prom, so node_exporter ignores it. The file is not synced to disk: the next one comes soon.
func WriteFile(file string, s *Source) error {
	removeLeftovers(file)
	parts, err := s.Text()
	if err == nil {
		err = replace(file, parts)
	}
	// The error names the temporary file, which is another one each time.
	if fault, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s a file in %s: %w", fault.Op, filepath.Dir(file), fault.Err)
	}
	if fault, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s a file to %s: %w", fault.Op, file, fault.Err)
	}
	return err
}

// replace writes a temporary file and renames it.
func replace(file string, parts [][]byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*"+unfinished)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // removeLeftovers does it later, otherwise
	}
	return err
}

// removeLeftovers removes temporary files of processes that were killed while they wrote.
func removeLeftovers(file string) {
	list, _ := filepath.Glob(escape(file) + ".[0-9]*" + unfinished) // the pattern is good
	for _, name := range list {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > leftover {
			_ = os.Remove(name) // the next time, otherwise
		}
	}
}

// escape turns a path into a pattern of filepath.Glob that matches it alone.
func escape(path string) string {
	var out []byte
	for i := range len(path) {
		if slices.Contains([]byte(`*?[\`), path[i]) {
			out = append(out, '\\')
		}
		out = append(out, path[i])
	}
	return string(out)
}

// carried is a sample of an earlier textfile about a certificate of which nothing is known yet.
type carried struct {
	metric string
	labels []string // of which the first is the certificate
	value  float64
}

// Carry reads the textfile that an earlier process has written: counters go on from there, and certificates of which nothing is known yet keep
// their numbers. So a command that looks at one certificate does not drop the others. It is not an error if there is no such file.
func (s *Source) Carry(file string) error {
	families, err := readFile(file)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carried = nil
	s.version++
	for _, m := range Catalogue() {
		family := families[m.Name]
		for _, sample := range family.GetMetric() {
			values, ok := valuesOf(sample, m.Labels)
			switch {
			case !ok:
			case m.Counter && !(sample.GetCounter().GetValue() < math.MaxInt64): // also what is no number: it would stay so for good
			case m.Counter:
				s.count(m.Name, values[0], values[1], max(0, sample.GetCounter().GetValue()))
			case !m.Counter && len(values) > 0 && m.Labels[0] == "certificate" && sample.Gauge != nil:
				s.carried = append(s.carried, carried{m.Name, values, sample.GetGauge().GetValue()})
			}
		}
	}
	return nil
}

// dropCarried forgets what the snapshot knows better, or what the configuration does not have. The caller holds s.mu.
func (s *Source) dropCarried() {
	if len(s.carried) == 0 {
		return
	}
	known := map[string]bool{}
	for _, c := range s.snapshot.Certificates {
		known[c.Name] = true
	}
	s.carried = slices.DeleteFunc(slices.Clone(s.carried), func(c carried) bool {
		return known[c.labels[0]] || !slices.Contains(s.snapshot.Configured, c.labels[0])
	})
}

// readFile parses a textfile.
func readFile(file string) (map[string]*dto.MetricFamily, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // nobody may write to a pipe
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it is read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err // there are no numbers in anything else
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(io.LimitReader(f, mostRead))
}

// valuesOf returns the values of labels in their order. ok is false if a sample has others.
func valuesOf(sample *dto.Metric, labels []string) (values []string, ok bool) {
	if len(sample.GetLabel()) != len(labels) {
		return nil, false
	}
	for _, name := range labels {
		i := slices.IndexFunc(sample.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name })
		if i < 0 {
			return nil, false
		}
		values = append(values, sample.GetLabel()[i].GetValue())
	}
	return values, true
}

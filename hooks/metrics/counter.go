package metrics

import "slices"

// The results that are counted.
const (
	Success  = "success"
	Failure  = "failure"
	Inactive = "inactive" // a unit was not running, so there was nothing to reload
	Dropped  = "dropped"  // a message waited too long, or there were too many
)

// count is a counter: a metric with its two labels, of which the second is the result.
type count struct{ metric, label, result string }

// countable lists what is counted, and the results that it can have.
var countable = map[string][]string{ //nolint:gochecknoglobals // a constant table
	renewals:      {Success, Failure},
	reloads:       {Success, Failure, Inactive},
	notifications: {Success, Failure, Dropped},
}

// Renewed counts an order, or several for the same certificate that were placed together.
func (s *Source) Renewed(certificate, result string) { s.add(count{renewals, certificate, result}, 1) }

// Reloaded counts a reload.
func (s *Source) Reloaded(unit, result string) { s.add(count{reloads, unit, result}, 1) }

// Notified counts a message to people that was sent, was not, or was dropped.
func (s *Source) Notified(channel, result string) { s.add(count{notifications, channel, result}, 1) }

func (s *Source) add(c count, n float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counters == nil {
		s.counters = map[count]float64{}
	}
	s.counters[c] += n
}

// Count says what the configuration in force has. Their counters begin at 0, so that the first event is seen as an increase. All others are
// forgotten.
func (s *Source) Count(certificates, units, channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[count]float64{}
	for metric, labels := range map[string][]string{renewals: certificates, reloads: units, notifications: channels} {
		for _, label := range labels {
			for _, result := range countable[metric] {
				c := count{metric, label, result}
				kept[c] = s.counters[c]
			}
		}
	}
	s.counters = kept
}

// counted reports whether a metric counts such results.
func counted(metric, result string) bool { return slices.Contains(countable[metric], result) }

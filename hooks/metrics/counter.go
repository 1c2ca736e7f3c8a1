package metrics

import (
	"cmp"
	"slices"
)

// The results that are counted.
const (
	Success  = "success"
	Failure  = "failure"
	Inactive = "inactive" // a unit was not running, so there was nothing to reload
	Dropped  = "dropped"  // a message waited too long, or there were too many
)

// countable lists what is counted, and the results that it can have, in order.
var countable = map[string][]string{ //nolint:gochecknoglobals // a constant table
	renewals:      {Failure, Success},
	reloads:       {Failure, Inactive, Success},
	notifications: {Dropped, Failure, Success},
}

// tally counts the results of one certificate, unit or channel.
type tally struct {
	label string
	times [3]float64 // in the order of countable
}

// Renewed counts an order, or several for the same certificate that were placed together.
func (s *Source) Renewed(certificate, result string) { s.add(renewals, certificate, result, 1) }

// Reloaded counts a reload.
func (s *Source) Reloaded(unit, result string) { s.add(reloads, unit, result, 1) }

// Notified counts a message to people that was sent, was not, or was dropped.
func (s *Source) Notified(channel, result string) { s.add(notifications, channel, result, 1) }

func (s *Source) add(metric, label, result string, n float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(metric, label, result, n)
}

// count counts n results. One that is not listed is ignored. The caller holds s.mu.
func (s *Source) count(metric, label, result string, n float64) {
	which := slices.Index(countable[metric], result)
	if which < 0 {
		return
	}
	if s.counters == nil {
		s.counters = map[string][]tally{}
	}
	list := s.counters[metric]
	at, found := find(list, label)
	if !found {
		list = slices.Insert(list, at, tally{label: label})
		s.counters[metric] = list
	}
	list[at].times[which] += n
	s.version++
}

// Count says what the configuration in force has. Their counters begin at 0, so that the first event is seen as an increase. All others are
// forgotten.
func (s *Source) Count(certificates, units, channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[string][]tally{}
	for metric, labels := range map[string][]string{renewals: certificates, reloads: units, notifications: channels} {
		labels = slices.Compact(slices.Sorted(slices.Values(labels)))
		list := make([]tally, len(labels))
		for i, label := range labels {
			list[i].label = label
			if at, found := find(s.counters[metric], label); found {
				list[i].times = s.counters[metric][at].times
			}
		}
		kept[metric] = list
	}
	s.counters = kept
	s.version++
}

func find(list []tally, label string) (at int, found bool) {
	return slices.BinarySearchFunc(list, label, func(t tally, label string) int { return cmp.Compare(t.label, label) })
}

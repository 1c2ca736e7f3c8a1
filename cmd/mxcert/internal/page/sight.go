package page

import (
	"cmp"
	"os"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Of makes a sight of what passes have found. memory has the events of the certificates; told is what people were told.
func Of(w tell.World, memory *Memory, told Told, now time.Time, maker Maker) Sight {
	s := Sight{Host: HostName(), Release: w.Release, At: now, Maker: maker, Told: told, Fleet: fleetOf(w)}
	if w.ConfigError != "" {
		s.Alarms = append(s.Alarms, BadConfiguration(w.ConfigError, w.ConfigBadAt))
	}
	for _, want := range w.Host.Certificates {
		known, passed := w.Certificates[want.Name]
		c := Certificate{Report: known.Report, Looked: known.At}
		if !passed {
			c.Report = stored(want, w.Store)
		}
		c.Report.Reported = w.Reported[want.Name]
		c.Events = memory.events(w.Store, want.Name, known.At, EventsOfEach(len(w.Host.Certificates)))
		s.Certificates = append(s.Certificates, c)
	}
	for topic, list := range w.Findings {
		if topic.Source == "senders" || topic.Source == "tlsrpt" && topic.Certificate != "" {
			continue // the reports have them
		}
		for _, f := range list {
			s.Alarms = append(s.Alarms, alarmOf(f, topic.Certificate))
		}
	}
	s.Finish()
	return s
}

// HostName is the name of this host; "this host" if it has none.
func HostName() string {
	name, _ := os.Hostname()
	return cmp.Or(name, "this host")
}

// stored is what the state says about a certificate that had no pass yet.
func stored(want wanted.Certificate, store *state.Book) report.Certificate {
	r := report.New(want.Name, want.Names)
	record, _, err := store.Lineage(want.Name).Look()
	if err != nil {
		return r
	}
	for _, key := range want.Keys {
		slot := record.Slot(key)
		g, err := store.Lineage(want.Name).Generation(slot.Current)
		if err != nil {
			continue
		}
		r.Keys = append(r.Keys, report.Key{Key: string(key), Serial: g.Serial, NotBefore: g.NotBefore, NotAfter: g.NotAfter, Issuer: g.Issuer, SPKI: g.SPKI})
		if at := slot.RenewAt; !at.IsZero() && (r.NextRenewal == nil || at.Before(*r.NextRenewal)) {
			r.NextRenewal = &at
		}
	}
	return r
}

// Memory keeps the last events of certificates, so that a page reads only the records of those that had a pass since the last one.
type Memory struct{ known map[string]remembered }

type remembered struct {
	at     time.Time // of the pass after which they were read
	events []state.Event
}

// EventsOfEach is how many events of each certificate can be among the last of all.
func EventsOfEach(certificates int) int { return max(3, min(mostEvents, 300/max(certificates, 1))) }

// events returns the last events of a certificate, the newest first. at is the time of its last pass.
func (m *Memory) events(store *state.Book, name string, at time.Time, most int) []state.Event {
	if known, ok := m.known[name]; ok && known.at.Equal(at) {
		return known.events
	}
	events := Events(store, name, most)
	if m.known == nil {
		m.known = map[string]remembered{}
	}
	m.known[name] = remembered{at, events}
	return events
}

// Events reads the last events of a certificate, the newest first; none if they cannot be read.
func Events(store *state.Book, name string, most int) []state.Event {
	record, _, err := store.Lineage(name).Look()
	if err != nil {
		return nil
	}
	list := slices.Clone(record.Events[max(0, len(record.Events)-most):])
	slices.Reverse(list)
	for i := range list {
		list[i].Message = finding.Quote(list[i].Message, mostText)
	}
	return list
}

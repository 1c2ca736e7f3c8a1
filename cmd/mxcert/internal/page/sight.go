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

// Of makes a sight of what passes have found. memory has the events of the certificates.
func Of(w tell.World, memory *Memory, now time.Time, maker Maker) Sight {
	s := Sight{Host: HostName(), Release: w.Release, At: now, Maker: maker}
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

// BadConfiguration is the alarm that the files of the configuration are broken.
func BadConfiguration(problem string, since time.Time) Alarm {
	return Alarm{Severity: finding.Error, Title: "the configuration is bad; the one that was loaded before stays in force: " + report.OneLine(problem), Since: since,
		Next: "mxcert check shows each fault; mxcert reads the files again when they change"}
}

// Finish adds the alarms of the certificates, and puts the worst first.
func (s *Sight) Finish() {
	for _, c := range s.Certificates {
		s.Alarms = append(s.Alarms, alarmsIn(c)...)
	}
	slices.SortStableFunc(s.Alarms, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(weight(b.Severity), weight(a.Severity)), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Title, b.Title))
	})
}

func weight(s finding.Severity) int {
	return slices.Index([]finding.Severity{finding.OK, finding.Warning, finding.Error}, s)
}

// alarmsIn lists what a person should know about a certificate.
func alarmsIn(c Certificate) (list []Alarm) {
	r := c.Report
	if e := r.Error; e != nil {
		severity := finding.Error
		if r.Code == report.CodeTemporary {
			severity = finding.Warning
		}
		list = append(list, Alarm{Severity: severity, Subject: r.Name, Title: report.OneLine(e.Message), Next: e.Hint})
	}
	if r.TLSA.Fault() {
		list = append(list, Alarm{Severity: finding.Error, Subject: r.Name, Title: tlsaFault(r.TLSA), Next: "mxcert tlsa check " + finding.Word(r.Name)})
	}
	for _, l := range r.LeftOut {
		list = append(list, Alarm{Severity: finding.Warning, Subject: r.Name, Title: "the certificate is without " + l.Name + ": " + l.Reason, Since: l.Since})
	}
	for _, w := range r.Warnings {
		list = append(list, Alarm{Severity: finding.Warning, Subject: r.Name, Title: w})
	}
	if r.Senders != nil {
		for _, f := range r.Senders.Findings {
			list = append(list, alarmOf(f, r.Name))
		}
	}
	return append(list, reportedAlarms(r.Reported)...)
}

// tlsaFault says why senders with DANE would refuse what is served, or what a person has to do.
func tlsaFault(t *report.TLSA) string {
	for _, o := range t.Owners {
		if o.Matches != nil && !*o.Matches {
			return "senders that use DANE do not accept what is served: " + o.Reason
		}
	}
	return "the TLSA records need a person: " + t.WaitingFor
}

func alarmOf(f finding.Finding, certificate string) Alarm {
	return Alarm{Severity: f.Severity, Subject: cmp.Or(f.Subject, certificate), Title: f.Message, Next: f.Hint}
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

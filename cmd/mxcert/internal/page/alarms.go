package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// Alarm is something that a person should know.
type Alarm struct {
	Severity finding.Severity
	Subject  string // the certificates, the domain or the host; "" if the title says it
	Title    string
	What     string    // more about it; "" if the title says it all
	Senders  string    // what senders see; "" if that is not known, or nothing
	Since    time.Time // zero if that is not known
	Told     time.Time // when people were told; zero if they were not
	Gone     time.Time // since when it is not found any more, and will be over if it stays so; zero if it still holds
	Next     string    // what to do; "" if there is nothing to do

	// An alarm that people were told says the same if it is about the certificate, has one of the ids, and contains the words.
	certificate string // "" if it is about the host
	ids         []string
	words       string
}

// Told is what people were told by the channels of the section notify and that is not over, and which channels could not deliver.
type Told struct {
	Alarms      []report.Alarm
	Undelivered []report.Undelivered
}

// failures are the ids of alarms about a pass that has failed: a pass has one failure, so one of them says it.
func failures() []string {
	return []string{"account-refused", "dane-gate", "drift", "hook-failed", "not-in-service", "pass-failed", "renewal-failed"}
}

// isIn reports whether people were told the same.
func (a Alarm) isIn(told report.Alarm) bool {
	about := a.certificate == "" && len(told.Certificates) == 0 || slices.Contains(told.Certificates, a.certificate)
	return about && told.Gone.IsZero() && slices.Contains(a.ids, told.ID) && strings.Contains(told.What, a.words)
}

// untold is 1 for an alarm that people were not told, and 0 otherwise.
func (a Alarm) untold() int {
	if a.Told.IsZero() {
		return 1
	}
	return 0
}

// mostSubjects limits the certificates that an alarm names, and mostSubject the bytes of each.
const mostSubjects, mostSubject = 5, 40

// alarmTold is an alarm that people were told. The text of another process is bounded and quoted when it is shown.
func alarmTold(a report.Alarm) Alarm {
	var names []string
	for _, name := range a.Certificates[:min(len(a.Certificates), mostSubjects)] {
		names = append(names, finding.Quote(name, mostSubject))
	}
	who := strings.Join(names, ", ")
	if more := len(a.Certificates) - mostSubjects; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	severity := finding.Severity(a.Severity)
	if !a.Gone.IsZero() {
		severity = finding.Warning // nothing is left to fix
	}
	return Alarm{Severity: severity, Subject: who, Title: report.OneLine(a.Title), What: a.What, Senders: a.Senders, Since: a.Since, Told: a.Told, Gone: a.Gone, Next: a.Next}
}

// alarmUndelivered is a channel that could not deliver.
func alarmUndelivered(u report.Undelivered) Alarm {
	waiting := ""
	if u.Waiting > 0 {
		waiting = fmt.Sprintf("; %d %s", u.Waiting, map[bool]string{true: "message waits", false: "messages wait"}[u.Waiting == 1])
	}
	return Alarm{Severity: finding.Warning, Title: "the channel " + u.Channel + " of notify cannot deliver: " + u.Error + waiting, Since: u.Since,
		Next: "mxcert notify test " + finding.Word(u.Channel) + " shows whether it works again"}
}

// BadConfiguration is the alarm that the files of the configuration are broken.
func BadConfiguration(problem string, since time.Time) Alarm {
	return Alarm{ids: []string{"configuration"}, Severity: finding.Error, Title: "the configuration is bad; the one that was loaded before stays in force: " + report.OneLine(problem), Since: since,
		Next: "mxcert check shows each fault; mxcert reads the files again when they change"}
}

// Finish adds what people were told, and the alarms of the certificates that this does not say. It puts the worst first, and of these what
// people were told.
func (s *Sight) Finish() {
	for _, c := range s.Certificates {
		s.Alarms = append(s.Alarms, alarmsIn(c)...)
	}
	s.Alarms = slices.DeleteFunc(s.Alarms, func(a Alarm) bool { return slices.ContainsFunc(s.Told.Alarms, a.isIn) })
	for _, a := range s.Told.Alarms {
		s.Alarms = append(s.Alarms, alarmTold(a))
	}
	for _, u := range s.Told.Undelivered {
		s.Alarms = append(s.Alarms, alarmUndelivered(u))
	}
	slices.SortStableFunc(s.Alarms, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(weight(b.Severity), weight(a.Severity)), a.untold()-b.untold(), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Title, b.Title))
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
		list = append(list, Alarm{certificate: r.Name, ids: failures(), Severity: severity, Subject: r.Name, Title: report.OneLine(e.Message), Next: e.Hint})
	}
	if k, is := expired(c); is {
		list = append(list, Alarm{certificate: r.Name, ids: []string{"expired"}, Severity: finding.Error, Subject: r.Name, Title: "the " + k.Key + " certificate has expired", Since: k.NotAfter,
			Next: "mxcert doctor " + finding.Word(r.Name) + " tests everything that a renewal needs"})
	}
	if r.TLSA.Fault() {
		list = append(list, Alarm{certificate: r.Name, ids: []string{"tlsa-mismatch", "tlsa-blocked"}, Severity: finding.Error, Subject: r.Name, Title: tlsaFault(r.TLSA), Next: "mxcert tlsa check " + finding.Word(r.Name)})
	}
	for _, l := range r.LeftOut {
		list = append(list, Alarm{certificate: r.Name, ids: []string{"name-left-out"}, words: l.Name + " is left out", Severity: finding.Warning, Subject: r.Name,
			Title: "the certificate is without " + l.Name + ": " + l.Reason, Since: l.Since})
	}
	for _, w := range r.Warnings {
		list = append(list, Alarm{Severity: finding.Warning, Subject: r.Name, Title: w})
	}
	if r.Senders != nil {
		for _, f := range r.Senders.Findings {
			list = append(list, alarmOf(f, r.Name))
		}
	}
	return append(list, reportedAlarms(r.Name, r.Reported)...)
}

// expired returns the first certificate that had expired when it was looked at.
func expired(c Certificate) (report.Key, bool) {
	i := slices.IndexFunc(c.Report.Keys, func(k report.Key) bool { return !k.NotAfter.After(c.Looked) })
	if i < 0 {
		return report.Key{}, false
	}
	return c.Report.Keys[i], true
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
	return Alarm{certificate: certificate, ids: []string{f.ID}, words: f.Message, Severity: f.Severity, Subject: cmp.Or(f.Subject, certificate), Title: f.Message, Next: f.Hint}
}

// Package alarm decides what people are told through the channels of the section notify, when, and how often.
//
// [Look] says which matters hold: pure, from what passes and looks have found. A [Book] remembers them, and says what changes: each change of
// state makes one message. [Teller] listens to the hub of package tell, keeps the book in the state and sends the messages, each channel in a
// goroutine of its own while it has something to send.
//
// The rules that keep a message rare and sure:
//
//   - What is not known is not well. A certificate without a pass since the start neither closes nor opens anything.
//   - Matters that are found together make one message. Those of one cause that follow later wait for each other, longer each time.
//   - What comes back soon after it was over has to stay away longer each time before it counts as over, up to half a day.
//   - At most six messages come at once, then one each half hour, which contains everything that has happened meanwhile.
//   - A message is stored before it is sent and removed after it. A kill in between may repeat it, and loses nothing.
package alarm

import (
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
)

// Matter is one thing that is wrong.
type Matter struct {
	ID          string           `json:"id"`                    // stable, such as not-in-service
	Source      string           `json:"source"`                // who knows whether it holds: pass, configuration, account, or the source of a tell.Topic
	Certificate string           `json:"certificate,omitempty"` // "" if it is about the host
	Subject     string           `json:"subject,omitempty"`     // tells matters of one certificate and ID apart, such as a DNS name
	Cause       string           `json:"cause"`                 // matters of one ID and cause are told together
	Severity    finding.Severity `json:"severity"`
	What        string           `json:"what"`
	Senders     string           `json:"senders,omitempty"`
	Next        string           `json:"next,omitempty"`

	since   time.Time     // when it began, if that is known
	at      time.Time     // when it was found
	found   int           // how many passes in a row have found it, as far as they know
	waits   bool          // the pass has not tried again: it does not count
	passes  int           // in how many passes it must be found before it is told
	age     time.Duration // how long it must hold before it is told
	calm    time.Duration // how long it must be gone before it counts as over
	once    bool          // it is an event: nothing repeats it, and it is not over
	instead string        // ID of the matter that it replaces
}

// key identifies a matter.
func (m *Matter) key() string { return m.ID + "\x00" + m.Certificate + "\x00" + m.Subject }

// group identifies the matters that are told together.
func (m *Matter) group() string { return m.ID + "\x00" + m.Cause }

// View is what is known at a moment.
type View struct {
	Matters []Matter

	exists map[string]bool // the certificates of the configuration
	passes map[string]bool // certificates whose last pass says how they are
	topics map[tell.Topic]bool
	hidden bool // the accounts could not be read
}

// knows reports whether the view says if a matter holds.
func (v *View) knows(m *Matter) bool {
	switch m.Source {
	case sourcePass:
		return v.passes[m.Certificate]
	case sourceConfig:
		return true
	case sourceAccount:
		return !v.hidden
	}
	return v.topics[tell.Topic{Source: m.Source, Certificate: m.Certificate}]
}

// count says how many passes in a row have failed, by certificate, as far as somebody has seen them all.
func (v *View) count(failed map[string]int) {
	for i := range v.Matters {
		if m := &v.Matters[i]; m.Source == sourcePass && m.passes > 0 {
			m.found = max(m.found, failed[m.Certificate])
		}
	}
}

// gone reports whether the certificate of a matter is not configured any more.
func (v *View) gone(m *Matter) bool { return m.Certificate != "" && !v.exists[m.Certificate] }

const (
	sourcePass    = "pass"
	sourceConfig  = "configuration"
	sourceAccount = "account"
)

// accountNews is how long the replacement of an account is news.
const accountNews = 7 * 24 * time.Hour

// Look returns which matters hold. accounts are those of the state; accountsErr says why they could not be read.
func Look(w tell.World, accounts []state.Account, accountsErr error, now time.Time) View {
	v := View{exists: map[string]bool{}, passes: map[string]bool{}, topics: map[tell.Topic]bool{}, hidden: accountsErr != nil}
	if w.ConfigError != "" {
		v.Matters = append(v.Matters, Matter{ID: "configuration", Source: sourceConfig, Severity: finding.Error, since: w.ConfigBadAt,
			What:    cut(strings.TrimSpace(w.ConfigError)),
			Senders: "nothing of it: the configuration that was loaded before stays in force",
			Next:    "correct the file; mxcert check shows every fault, and the daemon reads the file again by itself"})
	}
	v.Matters = append(v.Matters, replacedAccounts(accounts, now)...)
	for _, want := range w.Host.Certificates {
		v.exists[want.Name] = true
		if c, ok := w.Certificates[want.Name]; ok && !inconclusive(c.Report) {
			v.passes[want.Name] = true
			v.Matters = append(v.Matters, matters(c, now)...)
		}
	}
	for topic, list := range w.Findings {
		if topic.Certificate != "" && !v.exists[topic.Certificate] {
			continue
		}
		v.topics[topic] = true
		v.Matters = append(v.Matters, found(topic, list)...)
	}
	slices.SortStableFunc(v.Matters, worstFirst)
	return v
}

// cut limits a text that has several lines and was quoted before.
func cut(text string) string {
	if len(text) > mostText {
		return strings.ToValidUTF8(text[:mostText], "") + "…"
	}
	return text
}

// replacedAccounts are the accounts that mxcert had to replace lately. What a person has replaced is no news.
func replacedAccounts(accounts []state.Account, now time.Time) (list []Matter) {
	for _, a := range accounts {
		for _, f := range a.Former {
			if f.Why == state.ByHand || now.Sub(f.Until) > accountNews || f.Until.After(now.Add(time.Hour)) {
				continue
			}
			old := "an account whose URL is lost"
			if f.URL != "" {
				old = finding.Quote(f.URL, finding.MostQuoted)
			}
			list = append(list, Matter{ID: "account-replaced", Source: sourceAccount, Subject: a.Directory + " " + f.Until.UTC().Format(time.RFC3339), Severity: finding.Warning,
				since: f.Until, once: true,
				What: "mxcert uses a new account instead of " + old + ", because " + finding.Quote(f.Why, finding.MostQuoted),
				Next: "if CAA records contain accounturi, they must name the new account: mxcert account show"})
		}
	}
	return list
}

const (
	fleetAway  = "fleet-away"
	fleetFault = "fleet-fault"
	// fleetPatience is how long the store of a fleet must be away: members are restarted, and no certificate is in a hurry.
	fleetPatience = 15 * time.Minute
)

// secondLook is how long a warning about senders must hold: until a second look has found it.
const secondLook = 70 * time.Minute

// mostFindings limits the findings of a topic.
const mostFindings = 50

// found are the findings of a look.
func found(topic tell.Topic, list []finding.Finding) (matters []Matter) {
	for _, f := range list {
		if f.Severity == finding.OK || len(matters) == mostFindings {
			continue
		}
		m := Matter{ID: f.ID, Source: topic.Source, Certificate: topic.Certificate, Subject: f.Subject, Severity: f.Severity, What: f.Message, Next: f.Hint}
		if f.Subject != "" && !strings.Contains(f.Message, f.Subject) {
			m.What = f.Subject + ": " + f.Message
		}
		m.Cause = finding.Quote(f.Subject+" "+f.Message, mostCause)
		switch m.ID {
		case fleetAway:
			m.age, m.Senders = fleetPatience, "nothing of it: mail is served as before, and only orders and changes of keys wait"
		case fleetFault:
			m.Subject, _, _ = strings.Cut(f.Message, ": ") // the key of the value
			m.Senders = "nothing of it: this host refuses what it cannot believe, and goes on with what is on its disk"
		}
		if topic.Source == "senders" && f.Severity != finding.Error {
			m.age = secondLook
		}
		matters = append(matters, m)
	}
	return matters
}

// inconclusive reports whether a pass says nothing about the certificate. An order that waits for another host of the fleet, or for its
// store, is no fault: the health of the store is a matter of its own, and so is a certificate that ends soon.
func inconclusive(r report.Certificate) bool {
	return r.Error != nil && slices.Contains([]string{"interrupted", "locked", "refused", "fleet-busy", "fleet-away"}, r.Error.Kind)
}

// worstFirst orders errors before warnings.
func worstFirst(a, b Matter) int { return rank(a.Severity) - rank(b.Severity) }

func rank(s finding.Severity) int {
	if s == finding.Error {
		return 0
	}
	return 1
}

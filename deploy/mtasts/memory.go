package mtasts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// mostOlder limits how many older policies of one domain are remembered.
const mostOlder = 8

// mostRemembered limits the size of a policy that is remembered, in bytes: some sixty hosts. The memory of all domains is one record of limited
// size, and the owner of one domain must not fill it.
const mostRemembered = 2 << 10

// Memory is what earlier looks have found: a value to store as JSON. The zero value is a memory without any.
type Memory struct {
	Domains map[string]Remembered `json:"domains"`
}

// Remembered is the policy that senders may have cached.
type Remembered struct {
	ID     string    `json:"id"`
	Policy Policy    `json:"policy"`
	Seen   time.Time `json:"seen"` // the last time that a look found it
	// Older are other policies that were found under the same id. Senders that have cached one of these do not notice the change.
	Older []Older `json:"older,omitempty"`
}

// Older is a policy that is not served any more.
type Older struct {
	Policy Policy    `json:"policy"`
	Seen   time.Time `json:"seen"`
}

// until is when no sender has a policy any more that was last served at a time.
func (p Policy) until(seen time.Time) time.Time { return seen.Add(p.MaxAge) }

// size is about what a policy takes in a record.
func (p Policy) size() (bytes int) {
	for _, mx := range p.MX {
		bytes += 16 + len(mx)
	}
	return bytes
}

// Note compares what a look has found with what is remembered, see [Compare], and remembers it, unless the policy is very large.
func (m *Memory) Note(found Found, at time.Time) []finding.Finding {
	if m.Domains == nil {
		m.Domains = map[string]Remembered{}
	}
	if found.Policy != nil && found.Policy.size() > mostRemembered {
		delete(m.Domains, found.Domain)
		return nil
	}
	old, known := m.Domains[found.Domain]
	findings, now := Compare(old, found, at)
	switch {
	case now.ID != "":
		m.Domains[found.Domain] = now
	case known:
		delete(m.Domains, found.Domain)
	}
	return findings
}

// Keep forgets all other domains.
func (m *Memory) Keep(domains []string) {
	maps.DeleteFunc(m.Domains, func(domain string, _ Remembered) bool { return !slices.Contains(domains, domain) })
}

// Compare says what senders do that have cached an older policy, and returns what is to be remembered now. Its ID is "" if there is nothing
// to remember. old may be the zero value.
func Compare(old Remembered, found Found, at time.Time) (findings []finding.Finding, now Remembered) {
	now = old
	now.Older = slices.DeleteFunc(slices.Clone(old.Older), func(o Older) bool { return !o.Policy.until(o.Seen).After(at) })
	switch {
	case found.Policy == nil:
		return gone(old, found, at, now)
	case old.ID == "" || old.ID != found.ID:
		findings = renewed(old, found, at)
		now = Remembered{ID: found.ID, Policy: *found.Policy, Seen: at}
		return findings, now
	case !same(old.Policy, *found.Policy):
		now.Older = append(now.Older, Older{Policy: old.Policy, Seen: old.Seen})
		now.Older = slices.DeleteFunc(now.Older, func(o Older) bool { return same(o.Policy, *found.Policy) || !o.Policy.until(o.Seen).After(at) })
		now.Older = now.Older[max(0, len(now.Older)-mostOlder):]
	}
	now.Policy, now.Seen = *found.Policy, at
	for _, o := range now.Older {
		findings = append(findings, unnoticed(o, found))
	}
	return findings, now
}

// gone says what senders do if a policy that they have cached cannot be had any more.
func gone(old Remembered, found Found, at time.Time, now Remembered) ([]finding.Finding, Remembered) {
	until := old.Policy.until(old.Seen)
	if old.ID == "" || !until.After(at) {
		return nil, Remembered{}
	}
	if old.Policy.Mode == None || found.NotJudged { // an error is no denial
		return nil, now
	}
	hint := "serve the policy again"
	if found.Type == "" {
		hint = "to end MTA-STS, publish a policy with mode none and a new id, and remove both when the old max_age is over (RFC 8461 section 8.3)"
	}
	return []finding.Finding{finding.New("sts-policy-cached", finding.Warning, "there is no MTA-STS policy now, but senders that have cached the policy with id %s go on with it (mode %s, mx %s) until %s at the latest",
		old.ID, old.Policy.Mode, list(old.Policy.MX), minute(until)).About(found.Domain).Next(hint)}, now
}

// renewed says what senders do that have cached the policy of another id.
func renewed(old Remembered, found Found, at time.Time) []finding.Finding {
	if old.ID == "" || same(old.Policy, *found.Policy) || !old.Policy.until(old.Seen).After(at) {
		return nil
	}
	return []finding.Finding{finding.New("sts-policy-changed", finding.OK, "the policy has changed, and its id from %s to %s: senders that have cached the old one see the new id before their next delivery, and fetch the new policy",
		old.ID, found.ID).About(found.Domain)}
}

// unnoticed is about a policy that has changed under its id. It is an error if the older policy makes senders refuse what the new one permits.
func unnoticed(o Older, found Found) finding.Finding {
	severity, effect := finding.Warning, "they do not use the new one before that"
	if strict := o.Policy.Mode == Enforce; strict && (found.Policy.Mode != Enforce || slices.ContainsFunc(found.Policy.MX, func(mx string) bool { return !covers(o.Policy, mx) })) {
		severity, effect = finding.Error, "they do not deliver to hosts that only the new one permits"
	}
	return finding.New("sts-id-unchanged", severity, "the policy has changed, but its id is still %s: senders that have cached the older one (mode %s, mx %s) keep it until %s at the latest, and %s",
		found.ID, o.Policy.Mode, list(o.Policy.MX), minute(o.Policy.until(o.Seen)), effect).About(found.Domain).
		Next(fmt.Sprintf("publish a new id in the TXT record _mta-sts.%s, as after each change of the policy (RFC 8461 section 3.1)", found.Domain))
}

// covers reports whether a policy permits everything that a pattern permits.
func covers(p Policy, mx string) bool {
	return slices.Contains(p.MX, mx) || !strings.HasPrefix(mx, "*.") && p.Permits(mx)
}

// same reports whether senders do the same with two policies.
func same(a, b Policy) bool {
	x, y := slices.Sorted(slices.Values(a.MX)), slices.Sorted(slices.Values(b.MX))
	return a.Mode == b.Mode && a.MaxAge == b.MaxAge && slices.Equal(x, y)
}

func list(patterns []string) string {
	if len(patterns) == 0 {
		return "none"
	}
	return finding.Quote(strings.Join(patterns, ", "), 120)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

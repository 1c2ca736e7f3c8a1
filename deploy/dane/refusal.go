package dane

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// Refusal says why a plan must not be carried out.
type Refusal struct {
	Name    string // of the certificate, for the hint; "" if it is not known
	Owner   Owner
	Key     string
	Publish []string  // the records that have to be published first, in the form of a zone file
	Until   time.Time // when the plan may be carried out, if it only has to wait; else zero
	Reason  string    // one sentence
	Unknown bool      // what senders hold is not known: a temporary error

	least  time.Duration // from the moment at which Publish is everywhere until the plan may be carried out
	advice []string      // more to do
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

// Kind is dane, or dane-unknown if what senders hold is not known.
func (r *Refusal) Kind() string {
	if r.Unknown {
		return "dane-unknown"
	}
	return "dane"
}

// Records are those to publish first, each a line of a zone file.
func (r *Refusal) Records() []string { return r.Publish }

// Temporary reports whether the error may be gone at the next pass, without anybody's doing: what senders hold is not known now.
func (r *Refusal) Temporary() bool { return r.Unknown }

// Hint says what to do: which record to publish, or until when to wait.
func (r *Refusal) Hint() string {
	var list []string
	if len(r.Publish) > 0 {
		text := "publish " + strings.Join(r.Publish, " and ") + " and keep the present records; mxcert continues once no sender can hold a set without it"
		if r.least > 0 {
			text += fmt.Sprintf(", which takes %s after the last server has it", finding.Duration(r.least))
		}
		list = append(list, text)
	}
	list = append(list, r.advice...)
	switch {
	case !r.Until.IsZero():
		list = append(list, fmt.Sprintf("wait until %s: mxcert then continues", r.Until.UTC().Format(time.RFC3339)))
	case r.Unknown:
		list = append(list, "mxcert tries again at the next pass")
	}
	name := "NAME"
	if r.Name != "" {
		name = finding.Word(r.Name)
	}
	return strings.Join(append(list, "mxcert tlsa check "+name+" shows who has which records; --ignore-dane overrides"), "; ")
}

// advise adds the hint of an error.
func (r *Refusal) advise(err error) {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		r.advice = append(r.advice, h.Hint())
	}
}

// refuse explains which sets stand against a change.
func (m Memory) refuse(c Change, blocking []block, s Settings, now state.Instant) *Refusal {
	h, r := m[c.Owner.Name()], &Refusal{Owner: c.Owner, Key: c.Key}
	name, first := c.Owner.Name(), blocking[0]
	var sets []Cached
	for _, b := range blocking {
		sets = append(sets, b.Cached)
	}
	published := slices.ContainsFunc(m.Held(c.Owner, s), func(given Cached) bool {
		return len(given.By) > 0 && given.Asks() && c.fits(given.Set, c.when(now))
	})
	if first.Given && !published {
		for _, set := range sets {
			if set.Given {
				r.publish(h, c, set.Set, s)
			}
		}
	}
	switch {
	case len(first.By) > 0 && published:
		r.Reason = fmt.Sprintf("%s still %s TLSA records of %s that the new %s certificate does not fit as the served one does: %s", listed(first.By), verb(len(first.By), "gives", "give"), name, c.Key, first.why)
		r.advice = append(r.advice, verb(len(first.By), "update this server, or remove it", "update these servers, or remove them")+" from the NS records of the zone and of its parent")
	case len(first.By) > 0:
		r.Reason = fmt.Sprintf("senders that check the TLSA records of %s accept the served %s certificate and would refuse the new one: %s", name, c.Key, first.why)
	case first.Given && h.Fault == "":
		r.Reason = fmt.Sprintf("senders may get TLSA records of %s at any moment that the new %s certificate does not fit as the served one does: %s", name, c.Key, first.why)
	case first.Given:
		r.Reason = fmt.Sprintf("some server may still give TLSA records of %s that the new %s certificate does not fit (%s), because the last look was not complete: %s", name, c.Key, first.why, h.Fault)
	default:
		r.Until, _ = h.wait(c.Owner, sets, s, now)
		r.Reason = fmt.Sprintf("some senders may still hold older TLSA records of %s that the new %s certificate does not fit as the served one does: %s", name, c.Key, first.why)
	}
	return r
}

// publish adds the records that a set lacks: one of each combination with usage 3, and 3 1 1 if it has only issuers.
func (r *Refusal) publish(h *History, c Change, set Set, s Settings) {
	name := strings.TrimSuffix(c.Owner.Name(), ".") + "."
	if h.Final != "" {
		name = h.Final
	}
	r.least = max(r.least, Hold(set.TTL, s))
	var records []resolve.TLSA
	issuers, certificates := false, false
	for _, old := range set.TLSA() {
		switch {
		case !usable(old):
		case old.Usage == 3:
			records = append(records, recordOf(old.Selector, old.MatchingType, selected(c.New[0], old.Selector)))
			certificates = certificates || old.Selector == 0
		default:
			issuers = true
		}
	}
	key := recordOf(1, 1, c.New[0].RawSubjectPublicKeyInfo)
	if len(records) == 0 {
		records = append(records, key)
	}
	for _, record := range records {
		line := fmt.Sprintf("%s %d IN TLSA %s", name, int(set.TTL/time.Second), record)
		if !slices.Contains(set.Records, record.String()) && !slices.Contains(r.Publish, line) {
			r.Publish = append(r.Publish, line)
		}
	}
	if issuers {
		r.remark("a record 3 1 1 names the key and does not depend on the issuer")
	}
	if certificates {
		r.remark(fmt.Sprintf("a record of the whole certificate has to be replaced at each renewal, and 3 1 1 only with the key: %s", key))
	}
}

// remark adds advice, once.
func (r *Refusal) remark(text string) {
	if !slices.Contains(r.advice, text) {
		r.advice = append(r.advice, text)
	}
}

// selected is what the selector of a record names.
func selected(leaf *x509.Certificate, selector uint8) []byte {
	if selector == 1 {
		return leaf.RawSubjectPublicKeyInfo
	}
	return leaf.Raw
}

// joined makes one refusal of several: the first that is certain, with all records.
func joined(all []*Refusal) *Refusal {
	if len(all) == 0 {
		return nil
	}
	one := *all[max(0, slices.IndexFunc(all, func(r *Refusal) bool { return !r.Unknown }))]
	one.Publish, one.advice = nil, slices.Clone(one.advice)
	for _, r := range all {
		for _, line := range r.Publish {
			if !slices.Contains(one.Publish, line) {
				one.Publish = append(one.Publish, line)
			}
		}
		one.least = max(one.least, r.least)
		switch {
		case one.Until.IsZero() || r.Until.IsZero():
			one.Until = time.Time{}
		case r.Until.After(one.Until):
			one.Until = r.Until
		}
		if r.Unknown == one.Unknown {
			for _, text := range r.advice {
				one.remark(text)
			}
		}
	}
	return &one
}

package pass

import (
	"fmt"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// unpublished is a key that no record names.
const unpublished = "0000000000000000000000000000000000000000000000000000000000000000"

// keyWaits says that a change of keys has to wait, what for, and what to do.
func (p *pass) keyWaits(key bundle.KeyType) *keyWaits {
	t := p.tlsa
	e := &keyWaits{key: key, name: p.want.Name, wait: p.waits(key), publishes: t.settings.Mode == dane.Publish, leaving: t.settings.Mode == dane.Off || t.state.Leaving(t.settings), expiring: t.plan.Expiring != ""}
	if err := t.unknown(); err != nil {
		e.unknown = err
		return e
	}
	next, ok := t.keys[key]
	if !ok {
		next.SPKI = unpublished
	}
	for _, owner := range t.owners {
		ready, until, why := t.state.Memory.Ready(owner, next.SPKI, t.settings, t.at)
		if ready {
			continue
		}
		if e.wait.For == "" {
			e.wait = dane.Wait{For: why, Until: until}
		}
		if ok && !e.leaving {
			e.records = append(e.records, fmt.Sprintf("%s. IN TLSA %s", owner.Name(), dane.Record(next.SPKI)))
		}
	}
	return e
}

// waits says what a change of a key waits for. Before an order nothing was asked yet what it serves: that is not what it waits for.
func (p *pass) waits(key bundle.KeyType) dane.Wait {
	t := p.tlsa
	if len(p.seen) > 0 || p.have == nil {
		return t.plan.Waits[key]
	}
	facts := t.facts(p.have.Bundles, p.have.Record.Applying)
	facts.AllSeen = true
	return t.state.Plan(facts).Waits[key]
}

// keyWaits says why a certificate with another key is not ordered yet.
type keyWaits struct {
	key       bundle.KeyType
	name      string
	wait      dane.Wait
	records   []string
	publishes bool
	leaving   bool // mxcert removes its records, or senders may still hold them
	expiring  bool // signatures end too soon
	unknown   error
}

func (e *keyWaits) Error() string {
	if e.unknown != nil {
		return fmt.Sprintf("the %s key is not changed, because it is not known which TLSA records senders hold: %v", e.key, e.unknown)
	}
	text := fmt.Sprintf("the %s key is not changed yet, because senders that use DANE would defer mail", e.key)
	if e.wait.For != "" {
		text += ": " + e.wait.For
	}
	if !e.wait.Until.IsZero() {
		text += ", until " + report.Minute(e.wait.Until)
	}
	return text
}

// Hint says what to publish, or that mxcert does it.
func (e *keyWaits) Hint() string {
	switch {
	case e.unknown != nil:
		return "repair DNS; then run the command again"
	case e.leaving:
		return fmt.Sprintf("mxcert keeps the key until its records are removed and senders have forgotten them; run the command again then (mxcert tlsa check %s shows how far it is), or with --ignore-dane if senders may defer mail", e.name)
	case e.expiring && len(e.records) == 0:
		return fmt.Sprintf("have the zone signed again: mxcert then changes the key at the next pass; mxcert tlsa check %s shows when the signatures end, and --ignore-dane does not wait", e.name)
	case e.publishes:
		return fmt.Sprintf("mxcert publishes the record, waits and changes the key; mxcert tlsa check %s shows how far it is, and --ignore-dane does not wait", e.name)
	case len(e.records) > 0 && e.wait.Until.IsZero():
		return fmt.Sprintf("publish %s beside the present records, and run the command again when every server has had it for long enough (mxcert tlsa check %s shows it); --ignore-dane does not wait",
			strings.Join(e.records, "; "), e.name)
	}
	if e.wait.Until.IsZero() {
		return fmt.Sprintf("mxcert tlsa check %s shows what it waits for; --ignore-dane does not wait", e.name)
	}
	return fmt.Sprintf("the next pass after that time changes the key; mxcert tlsa check %s shows how far it is, and --ignore-dane does not wait", e.name)
}

// Records are those to publish.
func (e *keyWaits) Records() []string { return e.records }

// Kind is dane, or dane-unknown.
func (e *keyWaits) Kind() string {
	if e.unknown != nil {
		return kindDANEUnknown
	}
	return kindDANE
}

// Temporary reports whether nobody has to do anything.
func (e *keyWaits) Temporary() bool { return e.unknown != nil || e.publishes || !e.wait.Until.IsZero() }

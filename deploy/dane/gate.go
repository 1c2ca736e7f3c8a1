package dane

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/verdict"
)

// Change is what a plan changes for the senders of one port that get the certificate of one key type.
type Change struct {
	Owner Owner
	Names []string // reference names of usage 2 (RFC 7672 section 3.2.2)
	Key   string   // key type, for texts
	// Old are the chains that senders may get now, leaf first: what endpoints show, else what the files have. Empty if nothing is served with
	// this key type: senders then get one of the Old chains of the other changes of the owner.
	Old [][]*x509.Certificate
	New []*x509.Certificate
	// Unknown says that the owner could not be looked at in this pass: then only what is remembered counts, and a change of keys waits.
	Unknown error
}

// Gate judges changes as senders would (package verdict), for agile senders and for others (RFC 7671 section 9), against every set that some
// sender may hold. It refuses what turns a pass into a fail, and nothing else: what is broken already must still be renewed. If several
// changes are refused, the refusal is of the first, and Publish has the records of all.
//
// What mxcert cannot judge counts as a pass of the old chain and as a fail of the new one. A change of keys is refused too if nobody knows
// what senders hold: a look has failed or was not complete.
func (m Memory) Gate(changes []Change, s Settings, now state.Instant) *Refusal {
	var all []*Refusal
	for _, c := range changes {
		if len(c.New) == 0 {
			continue
		}
		if len(c.Old) == 0 {
			c.Old = elsewhere(c.Owner, changes)
		}
		if r := m.judge(c, s, now); r != nil {
			all = append(all, r)
		}
	}
	return joined(all)
}

// elsewhere returns the chains that senders get now of any key type.
func elsewhere(o Owner, changes []Change) [][]*x509.Certificate {
	var list [][]*x509.Certificate
	for _, c := range changes {
		if c.Owner == o {
			list = append(list, c.Old...)
		}
	}
	return list
}

// when is the time at which senders judge. A certificate exists, so its time has begun: a clock that says otherwise was set back.
func (c Change) when(now state.Instant) time.Time {
	at := now.At
	if !now.Outside.IsZero() {
		at = now.Outside
	}
	for _, chain := range append(slices.Clone(c.Old), c.New) {
		if len(chain) > 0 && chain[0].NotBefore.After(at) {
			at = chain[0].NotBefore
		}
	}
	return at
}

// judge judges one change.
func (m Memory) judge(c Change, s Settings, now state.Instant) *Refusal {
	var blocking []block
	at := c.when(now)
	for _, set := range m.Held(c.Owner, s) {
		if why := c.breaks(set.Set, at); why != "" {
			blocking = append(blocking, block{set, why})
		}
	}
	if len(blocking) > 0 {
		return m.refuse(c, blocking, s, now)
	}
	if !c.newKey() {
		return nil
	}
	return m.unknown(c, s, now)
}

// block is a set that stands against a change, and why.
type block struct {
	Cached
	why string
}

// breaks says why some sender with this set accepts an old chain and not the new one; "" if there is no such sender.
func (c Change) breaks(set Set, at time.Time) string {
	records := set.TLSA()
	for _, agile := range []bool{true, false} {
		fit := func(chain []*x509.Certificate) verdict.Fit {
			return verdict.FitTLSA(records, chain, c.Names, at, agile)
		}
		next := fit(c.New)
		if next.Accepts {
			continue
		}
		for _, chain := range c.Old {
			switch old := fit(chain); {
			case old.Accepts && next.NotJudged == "":
				return next.Reason
			case old.Accepts:
				return "mxcert cannot judge it as senders do: " + next.NotJudged
			case old.NotJudged == "": // it fails today
			case next.NotJudged == "":
				return next.Reason + ", and mxcert cannot judge the served one as senders do: " + old.NotJudged
			case old.NotJudged != next.NotJudged || !alike(chain, c.New):
				return "mxcert can judge neither it nor the served one as senders do: " + next.NotJudged
			}
		}
	}
	return ""
}

// fits reports whether all senders with this set accept the new chain.
func (c Change) fits(set Set, at time.Time) bool {
	records := set.TLSA()
	return verdict.FitTLSA(records, c.New, c.Names, at, true).Accepts && verdict.FitTLSA(records, c.New, c.Names, at, false).Accepts
}

// alike reports whether senders cannot tell two chains apart by their records, even if mxcert does not know what they decide: they have the
// same key, the same issuers and the same names.
func alike(a, b []*x509.Certificate) bool {
	return len(a) > 0 && len(b) > 0 && bytes.Equal(a[0].RawSubjectPublicKeyInfo, b[0].RawSubjectPublicKeyInfo) &&
		slices.Equal(a[0].DNSNames, b[0].DNSNames) && slices.EqualFunc(a[1:], b[1:], (*x509.Certificate).Equal)
}

// newKey reports whether some sender gets another key than now. If nothing is served, no sender gets one now.
func (c Change) newKey() bool {
	return slices.ContainsFunc(c.Old, func(chain []*x509.Certificate) bool {
		return len(chain) > 0 && !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, c.New[0].RawSubjectPublicKeyInfo)
	})
}

// unknown refuses a change of keys if nobody knows what senders hold.
func (m Memory) unknown(c Change, s Settings, now state.Instant) *Refusal {
	r := &Refusal{Owner: c.Owner, Key: c.Key, Unknown: true}
	h := m[c.Owner.Name()]
	var why string
	switch {
	case c.Unknown != nil:
		why = finding.Quote(finding.Line(c.Unknown), finding.MostQuoted)
		r.advise(c.Unknown)
	case h == nil:
		why = "mxcert has not looked at them yet"
	case h.Fault != "":
		why = h.Fault
	case m.Crowded(c.Owner, s):
		why = "there were more different sets than mxcert remembers"
		r.Until, _ = h.wait(c.Owner, []Cached{*h.Crowded}, s, now)
	default:
		return nil
	}
	r.Reason = fmt.Sprintf("the %s key is not changed, because nobody knows which TLSA records of %s senders hold: %s", c.Key, c.Owner.Name(), why)
	return r
}

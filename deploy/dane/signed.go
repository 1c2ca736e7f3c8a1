package dane

import (
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// Signatures must outlive the hold. When they are over, senders defer mail, whatever key is served, and a change of keys could neither be
// finished nor taken back. So none begins if the first signature ends before senders have forgotten the older records. Zones whose signatures
// never last for so long, because they are made when somebody asks or each day, are seen to be signed again, and that is as good.

// sign notes when the first signature ends.
func (h *History) sign(until time.Time, at state.Instant) {
	if until.After(h.Signed) && !h.Signed.IsZero() {
		h.Renewed = at
	}
	h.Signed = until
}

// signedAgain reports whether looks have seen within a hold that the zone was signed again.
func (m Memory) signedAgain(o Owner, hold time.Duration, now state.Instant) bool {
	h := m[o.Name()]
	if h == nil {
		return false
	}
	since := now.After(h.Renewed)
	return since >= 0 && since <= hold
}

// expiring says that signatures end before a change of keys that begins now could be over; "" if none do, as far as anybody can tell.
func (p *planner) expiring() string {
	hold := p.f.grace()
	for _, owner := range p.f.Owners {
		h := p.s.Memory[owner.Name()]
		if h == nil || h.Signed.IsZero() || !h.Signed.Before(p.f.At.At.Add(hold)) || p.s.Memory.signedAgain(owner, hold, p.f.At) {
			continue
		}
		return fmt.Sprintf("the signatures of %s end at %s, sooner than a change of keys takes (%s), and were not made again in such a time: sign the zone again",
			owner.Name(), h.Signed.UTC().Format(time.RFC3339), finding.Duration(hold))
	}
	return ""
}

// expireBefore says which signatures end before a moment, unless the zone was signed again of late.
func (p *planner) expireBefore(until time.Time) (whys []reason) {
	for i, owner := range p.f.Owners {
		end := p.f.view(i).SignedUntil()
		if end.IsZero() || !end.Before(until) || p.s.Memory.signedAgain(owner, p.f.grace(), p.f.At) {
			continue
		}
		whys = append(whys, reason{owner.Name(), fmt.Sprintf("the signatures of %s expire before that, on %s: make sure that the zone is signed again in time", owner.Name(), end.UTC().Format(time.RFC3339))})
	}
	return whys
}

// waits says why a roll that is due must not begin yet although senders know the next key; "" if nothing is in its way. An emergency does not
// wait for signatures.
func (p *planner) waits(a *Asked) string {
	if a == nil || a.Emergency || a.Ignore {
		return ""
	}
	return p.out.Expiring
}

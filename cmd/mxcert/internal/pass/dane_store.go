package pass

import (
	"encoding/json"
	"fmt"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// noteLook is how old the stored time of the last look may become before a pass stores it again.
const noteLook = 55 * time.Minute

// keepTLSA stores what is remembered, with a warning if it cannot be stored.
func (p *pass) keepTLSA() {
	if err := p.saveTLSA(); err != nil {
		p.warn("what mxcert has found out about the TLSA records could not be stored: " + err.Error())
	}
}

// saveTLSA stores what is remembered, if it has changed. In steady state that is so once an hour, for the time of the last look.
func (p *pass) saveTLSA() error {
	t := p.tlsa
	if p.options.DryRun {
		return nil
	}
	t.state.Mode = t.settings.Mode
	changed, now := t.print(), time.Now()
	if changed == t.stored && now.Sub(t.storedAt) < noteLook && !t.storedAt.After(now) {
		return nil
	}
	if err := p.lineage.SaveTLSA(&t.state); err != nil {
		return report.At("store", fmt.Errorf("TLSA records: %w", err))
	}
	t.stored, t.storedAt = changed, now
	return nil
}

// print returns the state as text, without the times of looks. Those at which old keys were counted stay: the grace counts from the last one.
func (t *tlsa) print() string {
	text, err := json.Marshal(t.state)
	if err != nil {
		return err.Error()
	}
	var plain dane.State
	if err := json.Unmarshal(text, &plain); err != nil {
		return string(text)
	}
	for _, h := range plain.Memory {
		if h != nil {
			h.Last, h.Whole, h.Signed, h.Renewed = state.Instant{}, time.Time{}, time.Time{}, state.Instant{}
		}
	}
	for _, peer := range plain.Peers {
		peer.Seen, peer.Last = state.Instant{}, time.Time{}
	}
	text, _ = json.Marshal(plain) // it was just read
	return string(text)
}

package dane

import (
	"strings"
	"testing"
	"time"
)

// TestRollWaitsForSignatures that outlive the hold, or that are seen to be made again. An emergency does not.
func TestRollWaitsForSignatures(t *testing.T) {
	t.Parallel()
	for _, emergency := range []bool{false, true} {
		w, _, h := simple(ecKey)
		h.settings.Hold = day
		steadily(t, h)
		first, end := h.current[ecKey], w.instant().At.Add(39*time.Hour)
		w.alter = func(v *View) {
			for i := range v.Steps[0].Served.Answers {
				v.Steps[0].Served.Answers[i].Until = end
			}
		}
		h.run()
		w.advance(w.now + 25*time.Hour)
		if h.run(); !strings.Contains(strings.Join(h.plan.Warnings, "\n"), "sooner than a change of keys takes (24h)") {
			t.Errorf("no warning: %q", h.plan.Warnings)
		}
		h.state.Ask(ecKey, Asked{Reason: "a person asks", Emergency: emergency})
		h.stored = h.encode()
		rolled := h.until(12*time.Hour, func() bool { return h.current[ecKey] != first })
		if rolled != emergency {
			t.Fatalf("emergency %v: rolled %v; %s %+v", emergency, rolled, h.phase(ecKey), h.plan.Waits)
		}
		if emergency {
			continue
		}
		if wait := h.plan.Waits[ecKey]; h.phase(ecKey) != Holding || !strings.Contains(wait.For, "sign the zone again") || h.plan.Next.IsZero() {
			t.Errorf("%s %+v, next pass %v", h.phase(ecKey), wait, h.plan.Next)
		}
		end = end.Add(12 * time.Hour) // as each day: it never lasts for a whole hold, and never ends
		if !h.until(3*time.Hour, func() bool { return h.current[ecKey] != first }) {
			t.Errorf("the zone was signed again: %s %+v", h.phase(ecKey), h.plan.Waits)
		}
		judged(t, w)
	}
}

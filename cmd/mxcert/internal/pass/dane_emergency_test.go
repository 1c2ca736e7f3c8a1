package pass

import (
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// An emergency with a third key: neither the current nor the next key is used again, and their records go. It waits until senders know the
// third key, unless somebody takes it upon him that they defer mail.
func TestEmergencyWithAThirdKey(t *testing.T) {
	t.Parallel()
	for _, ignore := range []bool{false, true} {
		h := newDANEHost(t, publishing, lab.Options{})
		h.pass(report.CodeOK, renew)
		h.steady()
		current, next := h.record(), dane.Record(h.remembered().Keys[bundle.EC256].Next).String()
		if got := h.published(); !slices.Contains(got, next) {
			t.Fatalf("the zone has %q, without %s", got, next)
		}
		watch := func() {}
		if !ignore {
			watch = h.watchI4()
		}
		began := time.Now()
		h.run(t.Context(), Options{IgnoreDANE: ignore, Roll: &dane.Asked{At: began, Reason: "both have leaked", Emergency: true, Fresh: true, Ignore: ignore}})
		h.until(patience, "a third key is served", func(report.Certificate) bool {
			if h.record() == next {
				t.Fatal("the next key, which has leaked, is in service")
			}
			return h.record() != current
		})
		if waited := time.Since(began); !ignore && waited < dane.Hold(h.ttl, dane.Settings{}) {
			t.Errorf("the third key is in service after %s, before senders know it", waited)
		}
		h.until(patience, "the records of both are removed", func(report.Certificate) bool {
			got := h.published()
			return !slices.Contains(got, current) && !slices.Contains(got, next)
		})
		h.steady()
		watch()
		for _, leaked := range []string{current, next} {
			if got := h.published(); len(got) != 2 || slices.Contains(got, leaked) {
				t.Errorf("ignored %v: the zone has %q; leaked: %s", ignore, got, leaked)
			}
		}
	}
}

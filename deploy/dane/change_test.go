package dane

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGateToCheckKeepsAPublishedKey: a next key whose record the operator has published is not deleted while a sender may hold the record.
func TestGateToCheckKeepsAPublishedKey(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.settings.Mode = ByHand
	h.run()
	h.run()
	w.publishes(z, Record(h.current[ecKey].spki).String(), Record(h.next[ecKey].spki).String())
	steadily(t, h)
	next := h.next[ecKey]
	h.settings.Mode = Check
	for range 5 {
		h.run()
		w.advance(w.now + time.Hour)
	}
	if h.next[ecKey] != next {
		t.Fatal("the next key is gone, and its record is published")
	}
	w.edit(z, mxName, func(list []string) []string {
		return slices.DeleteFunc(list, func(r string) bool { return r == Record(next.spki).String() })
	})
	if !h.until(day, func() bool { return h.next[ecKey] == nil }) {
		t.Error("the next key stays although nobody has its record")
	}
	judged(t, w)
}

// TestAPortGoes with its records, although its host stays.
func TestAPortGoes(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.names = []string{"mx.example.org"}
	h.owners = append(h.owners, Owner{"mx.example.org", 465})
	steadily(t, h)
	h.owners = h.owners[:1]
	for range 3 {
		h.run()
	}
	if got := z.primary["_465._tcp.mx.example.org."]; len(got) > 0 || len(h.state.Ours) != 2 {
		t.Errorf("%s, ours are %d", short(got), len(h.state.Ours))
	}
	judged(t, w)
}

// TestAZoneIsCut below the parent that has our records: nobody can remove them there any more, and rolls go on in the new zone.
func TestAZoneIsCut(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.names = []string{"mx.example.org"}
	steadily(t, h)
	first := h.current[ecKey]
	below := w.zone("mx.example.org", time.Minute, 0)
	w.edit(z, mxName, func([]string) []string { return nil }) // its servers refer to those of the zone below
	w.cut = below.name
	steadily(t, h)
	for range 2 {
		key := h.next[ecKey]
		h.state.Ask(ecKey, Asked{Reason: "a person asks"})
		h.stored = h.encode()
		if !h.until(2*day, func() bool { return h.current[ecKey] == key && h.phase(ecKey) == Steady }) {
			t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
		}
	}
	if got := below.primary[mxName]; len(got) != 2 || below.has(first) {
		t.Errorf("the zone below has %s", short(got))
	}
	judged(t, w)
}

// TestTheServedKeyIsShown while the certificate with another key is not in service yet: who publishes what is shown must not drop its record.
func TestTheServedKeyIsShown(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.settings.Mode = ByHand
	first := h.current[ecKey]
	h.run()
	h.run()
	w.publishes(z, Record(first.spki).String(), Record(h.next[ecKey].spki).String())
	steadily(t, h)
	h.broken = 5
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	for range 3 {
		h.run()
		w.edit(z, mxName, func([]string) (list []string) {
			for _, s := range h.plan.Show {
				list = append(list, s.Record)
			}
			return list
		})
		w.advance(w.now + time.Hour)
	}
	if h.current[ecKey] == first || !z.has(first) || !z.has(h.current[ecKey]) {
		t.Errorf("%v: the zone has %s", h.plan.Phases, short(z.primary[mxName]))
	}
	judged(t, w)
}

// TestManyRecordsOfOthers make no long text: it goes into logs every hour.
func TestManyRecordsOfOthers(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	var others []string
	for i := range 200 {
		others = append(others, fmt.Sprintf("3 1 1 %064x", i))
	}
	w.publishes(z, others...)
	h.settings.Mode = Off
	h.run()
	h.run()
	if wait := h.plan.Waits[ecKey].For; h.phase(ecKey) != Blocked || !strings.Contains(wait, "Remove or change those first") || len(wait) > 1000 {
		t.Errorf("%s: %d bytes: %.200s", h.phase(ecKey), len(wait), wait)
	}
	judged(t, w)
}

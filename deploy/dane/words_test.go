package dane

import (
	"strings"
	"testing"
	"time"
)

func TestGathered(t *testing.T) {
	t.Parallel()
	for want, reasons := range map[string][]reason{
		"":                                   nil,
		"the service is silent":              {{why: "the service is silent"}},
		"senders hold a":                     {{"a", "senders hold a"}},
		"senders hold a, b and c; d is gone": {{"a", "senders hold a"}, {"b", "senders hold b"}, {"d", "d is gone"}, {"c", "senders hold c"}},
	} {
		if got := gathered(reasons); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What was just added cannot have been seen by the look before. Later, the servers that lack it are named.
func TestJustAdded(t *testing.T) {
	t.Parallel()
	w, _, h := simple(ecKey)
	w.alter = func(v *View) {
		for i := range v.Steps[0].Served.Answers {
			v.Steps[0].Served.Answers[i].Records = nil
		}
	}
	h.run()
	f := h.facts()
	for i := range h.state.Ours {
		h.state.Ours[i].Added = f.At.At.Add(time.Second)
	}
	if got := h.state.Plan(f).Waits[ecKey].For; len(h.state.Ours) == 0 || !strings.HasPrefix(got, "mxcert has just added _25._tcp.mx.example.org IN TLSA 3 1 1 ") {
		t.Errorf("%d records of ours: %q", len(h.state.Ours), got)
	}
	for i := range h.state.Ours {
		h.state.Ours[i].Added = f.At.At.Add(-time.Second)
	}
	if got := h.state.Plan(f).Waits[ecKey].For; !strings.HasPrefix(got, "ns1.example.org [192.0.2.1:53] and ns2.example.org [192.0.2.2:53] do not give _25._tcp.mx.example.org IN TLSA 3 1 1 ") {
		t.Errorf("later: %q", got)
	}
}

// A look that changes nothing does not ask the service what it has. That is neither a fault nor something to wait for.
func TestLookWithoutTheService(t *testing.T) {
	t.Parallel()
	_, _, h := simple(ecKey)
	steadily(t, h)
	f := h.facts()
	f.Listed, f.Unasked = nil, true
	if plan := h.state.Plan(f); plan.Phases[ecKey] != Steady {
		t.Errorf("steady: %v %+v", plan.Phases, plan.Waits)
	}
	f.Settings.Mode = Off
	if plan := h.state.Plan(f); plan.Phases[ecKey] != Retiring || !strings.Contains(plan.Waits[ecKey].For, "mxcert removes the records") {
		t.Errorf("turning off: %v %+v", plan.Phases, plan.Waits)
	}
	h.state.Ours = nil
	f.Settings.Mode = Publish
	h.next[ecKey] = newSimKey(ecKey)
	f.Next = []KeyOf{h.next[ecKey].of()}
	if plan := h.state.Plan(f); plan.Phases[ecKey] != Publishing || !strings.HasPrefix(plan.Waits[ecKey].For, "mxcert has to add _25._tcp.mx.example.org IN TLSA ") || strings.Contains(plan.Waits[ecKey].For, "has not said") {
		t.Errorf("to be added: %v %+v", plan.Phases, plan.Waits)
	}
}

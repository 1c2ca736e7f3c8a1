package helper

import (
	"os"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/issuer"
)

// A client without helpers does everything in its own process, and one with helpers too, if it has the rights.
func TestClientWithTheRights(t *testing.T) {
	h := newHost(t)
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	for name, c := range map[string]*Client{"no helper": {}, "helpers": h.client} {
		want := h.want()
		if notes, err := c.Check(t.Context(), want, nil, nil, true); err != nil || len(notes) != 0 {
			t.Errorf("%s: check: %v, %v", name, notes, err)
		}
		plan, err := c.Plan(t.Context(), want, []*bundle.Bundle{b}, nil, func(string, string) {})
		h.check(err)
		if _, remote := plan.(*remotePlan); remote || plan.Summary().Empty() {
			t.Errorf("%s: plan %T, %+v", name, plan, plan.Summary())
		}
		Close(plan) // does nothing
	}
	Close(nil)
}

// Files that this process may not write are planned and written by the helper.
func TestClientWithoutTheRights(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root every file may be written: the plan is asked for directly")
	}
	h := newHost(t)
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	plan := h.plan(b)
	defer Close(plan)
	var said []string
	plan.say = func(_, message string) { said = append(said, message) }
	h.check(os.WriteFile(h.path("tls/mx.key"), []byte("old"), 0o600))
	plan = h.plan(b)
	plan.say = func(_, message string) { said = append(said, message) }
	h.check(plan.Apply(nil))
	if len(said) != 1 || !strings.Contains(said[0], "is kept as "+h.path("helper/lineages/mx/displaced/")) {
		t.Errorf("said %q", said)
	}
	if left := h.plan(b).Summary(); !left.Empty() {
		t.Errorf("left to do: %+v", left)
	}
}

// Files of places that the configuration does not name any more stay known, as long as they exist, with a note.
func TestRemember(t *testing.T) {
	h := newHost(t)
	want := h.want()
	old := h.path("tls/old.key")
	h.check(os.WriteFile(old, nil, 0o600))
	plan, err := (&Client{}).Plan(t.Context(), want, []*bundle.Bundle{issuer.New(t).Issue(t, life, "mx.example.org")}, nil, nil)
	h.check(err)
	h.check(plan.Apply(func(string, []byte) error { return nil }))
	record := state.Record{Files: map[string]state.File{old: {Mode: 0o600}, h.path("tls/gone.key"): {}}}
	notes := Remember(&record, want, plan)
	if len(notes) != 1 || !strings.HasPrefix(notes[0], old+" was written for this certificate") {
		t.Errorf("notes: %q", notes)
	}
	if known := KnownFiles(record); len(known) != 3 || known[h.path("tls/mx.key")].Mode != 0o640 || known[old].Mode != 0o600 {
		t.Errorf("known: %+v", known)
	}
	if notes := Remember(&record, want, nil); len(notes) != 1 || record.Files[h.path("tls/mx.key")].Mode != 0o640 {
		t.Errorf("without a plan: %q, %+v", notes, record.Files)
	}
}

package pass

import (
	"path/filepath"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
)

// TXT records of a certificate that is not configured any more are removed all the same.
func TestOrphanedRecords(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.Add(`_acme-challenge.old.example.org. 60 IN TXT "left"`))
	h.store() // makes the directories
	h.put("state/journal/gone.20260101T000000000Z-01234567.json", `{"version":1,"lineage":"gone","provider":"rfc2136",
		"records":[{"domain":"old.example.org","name":"_acme-challenge.old.example.org.","zone":"example.org.","value":"left"}]}`)
	h.check(h.runner().SweepOrphans(t.Context(), h.say))
	if left := h.World.TXT("_acme-challenge.old.example.org."); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if entries, err := filepath.Glob(h.Path("state", "journal", "*")); err != nil || len(entries) > 0 {
		t.Errorf("the journal has %v (%v)", entries, err)
	}
}

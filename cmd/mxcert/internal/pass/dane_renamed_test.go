package pass

import (
	"slices"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A certificate that is renamed in the configuration begins with another key. Senders know the one of the old name: the new one waits until its
// record is there, and the records of the old name are somebody else's.
func TestRenamedCertificateAndDANE(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"mode: check", publishing} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newDANEHost(t, mode, lab.Options{})
			h.pass(report.CodeOK, renew)
			if mode == publishing {
				h.steady()
			} else {
				h.publish(h.record())
			}
			before, old := h.spki(), h.record()
			watch := h.watchI4()
			h.edit("- name: mx\n", "- name: mail\n")
			c := h.run(t.Context(), renew)
			if c.Name != "mail" || c.Code == report.CodeOK || c.Error.Kind != kindDANE || h.spki() != before {
				t.Fatalf("%d, %s, %+v; the key was changed: %v", c.Code, c.Name, c.Error, h.spki() != before)
			}
			if mode != publishing {
				h.check(h.World.Add(c.Error.Publish...))
			}
			h.until(patience, "the new key is in service", func(c report.Certificate) bool { return c.Code == report.CodeOK && h.spki() != before })
			if !slices.Contains(h.published(), old) {
				t.Errorf("the record of the old name is gone: %q", h.published())
			}
			watch()
		})
	}
}

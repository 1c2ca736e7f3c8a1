package pass

import (
	"os"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A rehearsal proves the names to the CA, of the first key type alone, and deploys nothing.
func TestRehearse(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"rsa2048", "ec256"}}, lab.ConfigOptions{})
	h.hook("pre.d/note", note)
	r := h.runner()
	if err := r.Rehearse(t.Context(), r.Host.Certificates[0], h.say); err != nil {
		t.Fatal(err)
	}
	if n := h.CA.Count(ca.Certificate); n != 1 || len(h.generationsOf(bundle.RSA2048)) != 1 || len(h.ran()) > 0 {
		t.Errorf("%d certificates", n)
	}
	if files, err := os.ReadDir(h.Path("tls")); err != nil || len(files) > 0 {
		t.Errorf("deployed: %v, %v", files, err)
	}
	h.CA.SetWrap(ca.OutOfOrder(ca.NewOrder))
	if err := r.Rehearse(t.Context(), r.Host.Certificates[0], h.say); report.StageOf(err) != "order" || !report.IsTemporary(err) {
		t.Errorf("without the CA: %v", err)
	}
}

// A rehearsal says which optional names could not be proven, and proves the others.
func TestRehearseWithoutTheName(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	r := h.runner()
	if err := r.Rehearse(t.Context(), r.Host.Certificates[0], h.say); err != nil || !h.heard("left-out: "+extra+" is left out: ") || h.placed() != 2 {
		t.Errorf("%d orders, %v", h.placed(), err)
	}
}

// Without a secret that a CA needs there is no runner.
func TestNewNeedsSecrets(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.edit("  agree_tos: true\n", "  agree_tos: true\n  eab: {kid: kid-1, hmac_key: \"file:"+o.Path("missing")+"\"}\n")
	if _, err := New(o.wants(), o.store(), "0.0.0-dev"); err == nil || !strings.Contains(err.Error(), "acme.eab.hmac_key") {
		t.Errorf("%v", err)
	}
}

package revoke

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// A compromised key in service is not revoked while senders would refuse every other key. The error names the way out, and --ignore-dane
// overrides it. Other reasons need no other key.
func TestCompromisedKeyThatNoOtherCanReplace(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Signed: true})
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.edit("    keys: [", "    dane: {mode: check, ports: ["+port+"]}\n    keys: [")
	h.renew(pass.Options{})
	text, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	chain, err := bundle.ParseChain(text)
	h.check(err)
	for _, host := range []string{"mx", "host7"} {
		h.check(h.World.Add(fmt.Sprintf("_%s._tcp.%s.example.org. 60 TLSA 3 1 1 %x", port, host, sha256.Sum256(chain[0].RawSubjectPublicKeyInfo))))
	}
	r := h.runner()
	_, err = Choose(t.Context(), r, "mx", Choice{Reason: acme.KeyCompromise})
	if report.CodeOf(err) != report.CodeNotInService || report.KindOf(err) != "dane" || !strings.Contains(report.HintOf(err), "mxcert tlsa roll mx --emergency") {
		t.Errorf("%v (%d, %s): %s", err, report.CodeOf(err), report.KindOf(err), report.HintOf(err))
	}
	for what, choice := range map[string]Choice{"--ignore-dane": {Reason: acme.KeyCompromise, IgnoreDANE: true}, "superseded": {Reason: acme.Superseded}} {
		if _, err := Choose(t.Context(), r, "mx", choice); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

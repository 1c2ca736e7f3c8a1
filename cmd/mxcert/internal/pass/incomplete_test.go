package pass

import (
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A stored certificate without its issuer, as an earlier import may have left it, is never called served and never deployed, even if the
// server shows it already. The next pass orders one with its chain, and keeps the key.
func TestIncompleteChain(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.noRoots()
	old := h.pass(report.CodeOK, renew).Keys[0]
	whole := h.file("mx.crt")
	block, _ := pem.Decode([]byte(whole))
	leaf := string(pem.EncodeToMemory(block))
	h.check(os.WriteFile(newest(h, "fullchain.pem"), []byte(leaf), 0o600))

	refused := h.pass(report.CodeNotInService, deployOnly)
	if h.file("mx.crt") != whole {
		t.Error("the leaf alone was deployed")
	}
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte(leaf), 0o600))
	h.check(h.SMTP.Reload())
	for what, c := range map[string]report.Certificate{"deploy": refused, "deploy again": h.pass(report.CodeNotInService, deployOnly), "status": h.look(report.CodeNotInService)} {
		if c.Stage == report.Served || c.Error == nil || c.Error.Kind != "chain-incomplete" || !strings.Contains(c.Error.Message, "without the certificate of its issuer") || !strings.Contains(c.Error.Hint, "mxcert renew mx") {
			t.Errorf("%s: %+v, %+v", what, c, c.Error)
		}
	}
	dry := h.pass(report.CodeOK, dryRun)
	if text := strings.Join(dry.Plan, "\n"); !strings.Contains(text, "order: ec256 certificate") || !strings.Contains(text, "without the certificate of its issuer") || strings.Contains(text, "write ") {
		t.Errorf("a dry run: %q", text)
	}
	if c := h.pass(report.CodeNotInService, Options{DryRun: true, DeployOnly: true}); c.Error.Kind != "chain-incomplete" {
		t.Errorf("a dry run without an order: %+v", c.Error)
	}

	c := h.pass(report.CodeOK, renew)
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	if c.Stage != report.Served || c.Keys[0].Serial == old.Serial || c.Keys[0].SPKI != old.SPKI || err != nil || len(chain) < 2 || h.served() != c.Keys[0].Serial {
		t.Errorf("%d certificates, %v; %+v", len(chain), err, c)
	}
	if n := h.placed(); n != 2 || h.pass(report.CodeOK, renew).Changed || h.placed() != n {
		t.Errorf("%d orders, then %d", n, h.placed())
	}
}

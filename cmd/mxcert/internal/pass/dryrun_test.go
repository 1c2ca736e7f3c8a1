package pass

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A dry run of what is not an order: it names each file and each reload, and changes none.
func TestDryRunOfADeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	h.edit("timeout: 30s}", "timeout: 4s}")
	h.edit(fmt.Sprintf("private_key: %q", h.Path("tls", "mx.key")), fmt.Sprintf("private_key: %q, mode: \"0640\"", h.Path("tls", "mx.key")))
	h.pass(report.CodeNotInService, renew)
	h.check(h.SMTP.Reload())
	h.pass(report.CodeOK, renew)
	if c := h.pass(report.CodeOK, dryRun); len(c.Plan) != 0 || c.Stage != report.Served {
		t.Errorf("nothing is to be done: %+v", c)
	}
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o600))
	for _, options := range []Options{dryRun, {DryRun: true, DeployOnly: true}} {
		c := h.pass(report.CodeOK, options)
		if len(c.Plan) != 3 || !slices.ContainsFunc(c.Plan, func(s string) bool {
			return strings.HasPrefix(s, "write "+h.Path("tls", "mx.crt")+" (missing), ") && strings.HasSuffix(s, " mode 0640")
		}) ||
			!slices.ContainsFunc(c.Plan, func(s string) bool { return strings.HasPrefix(s, "write "+h.Path("tls", "mx.key")+" (mode or owner)") }) {
			t.Errorf("%+v: %q", options, c.Plan)
		}
	}
	if _, err := os.Stat(h.Path("tls", "mx.crt")); !os.IsNotExist(err) {
		t.Error("a dry run wrote a file")
	}
	h.pass(report.CodeOK, renew)
	h.check(os.Rename(h.Path("tls"), h.Path("tls.good")))
	h.check(os.Mkdir(h.Path("tls"), 0o700))
	_ = h.SMTP.Reload() // fails, and leaves it without a certificate
	h.check(os.Remove(h.Path("tls")))
	h.check(os.Rename(h.Path("tls.good"), h.Path("tls")))
	if c := h.pass(report.CodeOK, dryRun); len(c.Plan) != 1 || !strings.HasPrefix(c.Plan[0], "reload") {
		t.Errorf("the server has no certificate: %q", c.Plan)
	}
}

// A dry run is a diff for programs, too: of what exists now; what an order will bring is not known.
func TestDryRunIsADiff(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if d := h.pass(report.CodeOK, dryRun).DryRun; d == nil || len(d.Orders) != 1 || len(d.Files) != 0 {
		t.Errorf("%+v", d)
	}
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	second := h.pass(report.CodeOK, Options{Force: true, NewKey: true}).Keys[0].Serial
	c := h.pass(report.CodeOK, dryRollback)
	if d := c.DryRun; len(d.Orders) != 0 || len(d.Files) != 2 || d.Files[0].Before == nil || d.Files[0].After.Mode != "0640" || len(d.Handshakes) != 1 || c.Keys[0].Serial != first {
		t.Errorf("%+v", c)
	}
	if h.served() != second || h.look(report.CodeOK).Keys[0].Serial != second {
		t.Error("a dry run has changed something")
	}
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o600))
	c = h.pass(report.CodeOK, Options{DryRun: true, DeployOnly: true})
	if d := c.DryRun; len(d.Files) != 1 || d.Files[0].Content || d.Files[0].Before.Mode != "0600" || len(d.Handshakes) != 0 || d.Reloads == nil {
		t.Errorf("%+v", d)
	}
}

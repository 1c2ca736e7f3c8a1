package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A dry run prints a diff, for people and for programs.
func TestDryRunInWords(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if d := h.report(report.CodeOK, "renew", "--dry-run").Certificates[0].DryRun; d == nil || len(d.Orders) != 1 || len(d.Files) != 0 {
		t.Errorf("%+v", d)
	}
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	second := h.report(report.CodeOK, "renew", "--now").Certificates[0].Keys[0].Serial
	if c := h.report(report.CodeOK, "rollback", "mx", "--dry-run").Certificates[0]; c.Keys[0].Serial != first {
		t.Errorf("%+v", c)
	}
	if h.report(report.CodeOK, "status").Certificates[0].Keys[0].Serial != second {
		t.Error("a dry run has changed something")
	}
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o600))
	got := h.run("deploy", "mx", "--dry-run")
	if !strings.Contains(got.said(), "would write "+h.Path("tls", "mx.key")+" (mode or owner), ") || !strings.Contains(got.said(), "mode 0600 → ") {
		t.Errorf("%+v", got)
	}
	var text map[string]any
	h.check(json.Unmarshal([]byte(h.run("deploy", "mx", "--dry-run", "--json").stdout), &text))
	if _, ok := text["certificates"].([]any)[0].(map[string]any)["dry_run"].(map[string]any)["reloads"].([]any); !ok {
		t.Errorf("%v", text)
	}
}

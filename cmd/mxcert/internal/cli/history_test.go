package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// What the configuration no longer names is in no list, but with --all, where it says how to forget it.
func TestHistoryOfAll(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("history", "--all"); got.code != report.CodeOK || got.stdout != "mx\n" {
		t.Errorf("before the first certificate: %+v", got)
	}
	h.report(report.CodeOK, "renew")
	h.edit("name: mx\n", "name: post\n")
	if got := h.run("history"); got.code != report.CodeOK || got.stdout != "post\n" {
		t.Errorf("without --all: %+v", got)
	}
	directory := h.Path("state", "lineages", "mx")
	if got := h.run("history", "--all"); got.code != report.CodeOK || !strings.HasPrefix(got.stdout, "post\nmx\n  not in use ") || !strings.Contains(got.said(), "directory "+directory+" ") {
		t.Errorf("%+v", got)
	}
	var r historyReport
	h.check(json.Unmarshal([]byte(h.run("history", "--all", "--json").stdout), &r))
	if len(r.Certificates) != 2 || !r.Certificates[0].Configured || r.Certificates[1].Configured || r.Certificates[1].Directory != directory || len(r.Certificates[1].Generations) != 1 {
		t.Errorf("%+v", r)
	}
	if got := h.run("history", "--all", "post"); got.code != report.CodeUsage {
		t.Errorf("%+v", got)
	}
}

package cli

import (
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// TestDoctorOfMail: what senders meet is shown in 80 columns, also findings with long IDs; --online writes and removes.
func TestDoctorOfMail(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"example.org"}})
	h.check(h.World.Add(`_mta-sts.example.org. TXT "v=STSv1; id=2026-11-29;"`))
	before := h.World.Serial(lab.Zone)
	got := h.run("doctor")
	for _, want := range []string{"✗ error   sts-record-invalid\n" + strings.Repeat(" ", doctorColumn) + "example.org: the TXT record", "_mta-sts.example.org. TXT", "not judged"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("not found: %q in\n%s", want, got.stdout)
		}
	}
	for line := range strings.Lines(got.stdout) {
		if len([]rune(strings.TrimRight(line, "\n"))) > 80 && strings.Count(strings.TrimSpace(line), " ") > 3 {
			t.Errorf("more than 80 columns: %q", line)
		}
	}
	if got.code != report.CodeFault || h.World.Serial(lab.Zone) != before {
		t.Errorf("exit code %d, serial %d after %d", got.code, h.World.Serial(lab.Zone), before)
	}
	if r := h.examined(report.CodeFault, "--online"); !r.has("online", "ok", "rfc2136 created a TXT record for mx.example.org") || h.World.Serial(lab.Zone) == before {
		t.Errorf("online:%s", r)
	}
}

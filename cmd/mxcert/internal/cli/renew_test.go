package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

func TestFirstIssueIsServedAndSecondRunChangesNothing(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(report.CodeOK, "renew")
	if c := first.Certificates[0]; !first.Changed || c.Stage != report.Served || len(c.Endpoints) == 0 || !c.Endpoints[0].Matches {
		t.Fatalf("first run: %+v", first)
	}
	second := h.report(report.CodeOK, "renew")
	if second.Changed || second.Certificates[0].Keys[0].Serial != first.Certificates[0].Keys[0].Serial {
		t.Fatalf("second run: %+v", second)
	}
}

func TestDetailedExitCode(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeChanged, "renew", "--detailed-exitcode")
	h.report(report.CodeOK, "renew", "--detailed-exitcode")
}

func TestRollbackAndDeploy(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("rollback", "mx"); got.code != report.CodeFailed || !strings.Contains(got.stdout+got.stderr, "no earlier") {
		t.Errorf("rollback of nothing: %+v", got)
	}
	serial := func(args ...string) string { return h.report(report.CodeOK, args...).Certificates[0].Keys[0].Serial }
	first := serial("renew")
	second := serial("renew", "--now")
	if got := serial("rollback", "mx"); got != first {
		t.Errorf("rollback serves %s, want %s", got, first)
	}
	if got := serial("renew"); got != first {
		t.Errorf("the pass after a rollback serves %s, want %s", got, first)
	}
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	if got := serial("renew"); got != first {
		t.Errorf("healing serves %s, want %s", got, first)
	}
	if got := serial("deploy", "mx"); got != second {
		t.Errorf("deploy serves %s, want %s", got, second)
	}
	out := h.run("history").stdout
	for _, want := range []string{"ec256    serial " + first, "ec256    serial " + second, "rolled-back", "rolled-forward", "healed", "issued"} {
		if !strings.Contains(out, want) {
			t.Errorf("the history lacks %s:\n%s", want, out)
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(os.RemoveAll(h.Path("state")))
	r := h.report(report.CodeOK, "renew", "--dry-run")
	if r.Changed || len(r.Certificates[0].Plan) == 0 || !strings.Contains(r.Certificates[0].Plan[0], "order") {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(h.Path("state")); !os.IsNotExist(err) {
		t.Errorf("the dry run made a state directory (%v)", err)
	}
}

// The fields of the report are a contract with scripts.
func TestReportFields(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	var r map[string]any
	text := h.run("status", "--json").stdout
	h.check(json.Unmarshal([]byte(text), &r))
	for _, list := range []string{"keys", "endpoints", "files", "warnings", "names"} {
		if strings.Contains(text, fmt.Sprintf("%q: null", list)) {
			t.Errorf("the list %s is null:\n%s", list, text)
		}
	}
	certificate := r["certificates"].([]any)[0].(map[string]any)
	key := certificate["keys"].([]any)[0].(map[string]any)
	endpoint := certificate["endpoints"].([]any)[0].(map[string]any)
	for _, tt := range []struct {
		of     map[string]any
		fields string
	}{
		{r, "changed certificates"},
		{certificate, "name names keys stage changed next_renewal endpoints error"},
		{key, "key serial not_before not_after issuer spki_sha256"},
		{endpoint, "address server_name key serial matches"},
	} {
		for _, field := range strings.Fields(tt.fields) {
			if _, ok := tt.of[field]; !ok {
				t.Errorf("the report lacks %s in %v", field, tt.of)
			}
		}
	}
	for _, value := range []any{key["not_before"], key["not_after"], certificate["next_renewal"]} {
		if when, err := time.Parse(time.RFC3339, fmt.Sprint(value)); err != nil || when.Location() != time.UTC {
			t.Errorf("%v is not RFC 3339 in UTC (%v)", value, err)
		}
	}
	if serial := fmt.Sprint(key["serial"]); serial != strings.ToLower(serial) || len(serial)%2 != 0 {
		t.Errorf("serial %q", serial)
	}
}

func TestStatusBeforeTheFirstIssue(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if c := h.report(report.CodeTemporary, "status").Certificates[0]; c.Stage != report.Waiting || c.Error != nil {
		t.Errorf("%+v", c)
	}
}

func TestNamedCertificates(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("renew", "nosuch"); got.code != report.CodeUsage || !strings.Contains(got.stderr, `"nosuch"`) || !strings.Contains(got.stderr, "mx") {
		t.Errorf("%+v", got)
	}
	h.report(report.CodeOK, "renew", "mx")
}

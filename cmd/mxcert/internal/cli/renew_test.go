package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"

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

// The key stays over renewals unless a new one is asked for; then both files change together.
func TestKeyReuse(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	spki := func(args ...string) string { return h.report(report.CodeOK, args...).Certificates[0].Keys[0].SPKI }
	first := spki("renew")
	if again := spki("renew", "--now"); again != first {
		t.Error("renew --now made a new key")
	}
	third := spki("renew", "--new-key")
	if third == first {
		t.Error("renew --new-key kept the key")
	}
	h.edit("    keys: [ec256]", "    reuse_key: false\n    keys: [ec256]")
	if spki("renew", "--now") == third {
		t.Error("reuse_key: false kept the key")
	}
}

// A new key that was paid for and could not be put in service is what the next --new-key gets.
func TestNewKeyThatWaits(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	h.report(report.CodeOK, "renew", "--now")
	h.edit("timeout: 30s}", "timeout: 1s}")
	h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	waiting := h.report(report.CodeNotInService, "renew", "--new-key").Certificates[0].Keys[0]
	if waiting.SPKI == first.SPKI || h.placed() != 3 {
		t.Fatalf("%+v after %d orders", waiting, h.placed())
	}
	h.SMTP.SetFaults(smtpd.Faults{})
	if got := h.report(report.CodeOK, "renew", "--new-key").Certificates[0].Keys[0]; got.Serial != waiting.Serial || h.placed() != 3 {
		t.Errorf("%+v after %d orders, want %+v", got, h.placed(), waiting)
	}
	if got := h.report(report.CodeOK, "renew", "--new-key").Certificates[0].Keys[0]; got.SPKI == waiting.SPKI || h.placed() != 4 {
		t.Errorf("%+v after %d orders, want another key", got, h.placed())
	}
}

func TestTwoKeyTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{})
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if len(c.Keys) != 2 || len(c.Endpoints) != 2 || c.Keys[0].Serial == c.Keys[1].Serial {
		t.Fatalf("%+v", c)
	}
	for _, e := range c.Endpoints {
		if !e.Matches {
			t.Errorf("%s is not served: %+v", e.Key, e)
		}
	}
	if code := h.run("verify").code; code != report.CodeOK {
		t.Errorf("verify: exit code %d", code)
	}
}

func TestChangedNamesAreOrdered(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	h.edit(`, "host7.example.org"`, "")
	r := h.report(report.CodeOK, "renew")
	if !r.Changed || len(r.Certificates[0].Names) != 1 || h.orders() != 2 {
		t.Errorf("%+v", r)
	}
}

func TestWildcardAndApexTogether(t *testing.T) {
	h := newHost(t, lab.Options{Secondaries: 1}, lab.ConfigOptions{Domains: []string{"mx.example.org", "*.mx.example.org", "example.com"}})
	if r := h.report(report.CodeOK, "renew"); r.Certificates[0].Stage != report.Served {
		t.Errorf("%+v", r)
	}
	if left := h.World.TXT("_acme-challenge.mx.example.org."); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
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
	if got := serial("deploy", "mx"); got != first {
		t.Errorf("deploy serves %s, want %s", got, first)
	}
	out := h.run("history").stdout
	for _, want := range []string{first, second, "rolled-back", "healed", "issued"} {
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

// Fifty impatient operators cost one order.
func TestManyAtOnceOrderOnce(t *testing.T) {
	// The lag keeps the first order open until all the others have asked: who asks after it was issued gets another.
	h := newHost(t, lab.Options{DNSLag: 3 * time.Second}, lab.ConfigOptions{})
	var group sync.WaitGroup
	codes := make([]report.Code, 50)
	for i := range codes {
		group.Go(func() { codes[i] = h.run("renew", "--now").code })
	}
	group.Wait()
	for i, code := range codes {
		if code != report.CodeOK {
			t.Errorf("run %d: exit code %d", i, code)
		}
	}
	if n := h.orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// The fields of the report are a contract with scripts.
func TestReportFields(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	var r map[string]any
	h.check(json.Unmarshal([]byte(h.run("status", "--json").stdout), &r))
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

// The CA refuses every other nonce: nothing of it is to be seen.
func TestBadNonces(t *testing.T) {
	h := newHost(t, lab.Options{CA: ca.Options{BadNonces: 50}}, lab.ConfigOptions{})
	if c := h.report(report.CodeOK, "renew").Certificates[0]; c.Stage != report.Served {
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

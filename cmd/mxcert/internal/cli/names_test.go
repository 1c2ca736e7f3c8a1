package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// The only certificate needs no name, and a name that is given twice is one certificate.
func TestNamesOfCertificates(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if r := h.report(report.CodeOK, "renew", "mx", "mx"); len(r.Certificates) != 1 {
		t.Errorf("renew mx mx reports %d certificates", len(r.Certificates))
	}
	if r := h.report(report.CodeOK, "status", "mx", "mx"); len(r.Certificates) != 1 {
		t.Errorf("status mx mx reports %d certificates", len(r.Certificates))
	}
	h.report(report.CodeOK, "renew", "--now")
	for _, command := range []string{"deploy", "rollback"} {
		if r := h.report(report.CodeOK, command); len(r.Certificates) != 1 || r.Certificates[0].Name != "mx" {
			t.Errorf("%s: %+v", command, r)
		}
	}
	// A revocation still needs its confirmation.
	if got := h.run("revoke"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "a revocation of mx cannot be undone: confirm it with --yes") {
		t.Errorf("revoke: %+v", got)
	}
	if got := h.run("revoke", "--yes", "--reason", "superseded"); got.code != report.CodeOK || !strings.HasPrefix(got.stdout, "mx: reason superseded") {
		t.Errorf("revoke --yes: %+v", got)
	}
}

// A command that is refused says how the certificate is: as before.
func TestRefusedRollback(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	c := h.report(report.CodeFailed, "rollback").Certificates[0]
	if c.Stage != report.Served || len(c.Keys) != 1 || c.Keys[0].Serial != serial || len(c.Endpoints) != 1 || len(c.Files) != 2 || c.Error == nil || c.Error.Kind != "refused" || !strings.Contains(c.Error.Hint, "mxcert history mx") {
		t.Errorf("%+v, %+v", c, c.Error)
	}
	h.report(report.CodeOK, "status") // the refusal is no failure of the certificate
}

// Only lines that a shell reads as they are become a proposal.
func TestPlainLines(t *testing.T) {
	t.Parallel()
	for line, plain := range map[string]bool{"sudo mxcert -c /etc/x.yaml status mx": true, "a;b": false, "a $(b)": false, "a 'b'": false, "a\nb": false, "ä": false, "a > b": false, "a*": false, "--timeout=5s": true} {
		if isPlainLine(line) != plain {
			t.Errorf("%q is plain: %v", line, !plain)
		}
	}
}

// import without a client lists what is in the usual places.
func TestTreesInTheUsualPlaces(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	got := h.run("import", "--json")
	var r treesReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeOK || r.Found == nil {
		t.Errorf("%v: %+v", err, got)
	}
	for want, found := range map[string][]treeReport{
		"no tree of certbot, acme.sh, lego, dehydrated, uacme is in its usual place;\n  mxcert import CLIENT PATH reads another place\n": nil,
		"certbot in /etc/letsencrypt\n  certificates mx.example.org, ns\n  next step    look at what mxcert would take over:\n               `mxcert import certbot --dry-run`\n": {
			{Client: "certbot", Path: "/etc/letsencrypt", Certificates: []string{"mx.example.org", "ns"}}},
		"lego in /root/.lego\n  error        broken\n  next step    fix it\n": {{Client: "lego", Path: "/root/.lego", Error: &report.Error{Message: "broken", Hint: "fix it"}}},
	} {
		var out bytes.Buffer
		if printTrees(plainSheet(&out), found); out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// The report of an order has the time of the next renewal that later passes and status have.
func TestNextRenewalAfterAnOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	next := func(args ...string) string {
		t.Helper()
		return h.report(report.CodeOK, args...).Certificates[0].NextRenewal.String()
	}
	ordered := next("renew")
	if status, again := next("status"), next("renew"); status != ordered || again != ordered {
		t.Errorf("after the order %s, then status %s, the next pass %s", ordered, status, again)
	}
}

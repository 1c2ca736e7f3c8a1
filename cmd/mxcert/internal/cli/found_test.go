package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// Without a daemon, each renew is a look: the second one adds the name. The commands say why each name is there.
func TestNamesFromMX(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"example.com"}, Extra: "public_addresses: [\"192.0.2.10\"]\n"})
	h.edit("    keys:", "    mail_domains_confirm: 1s\n    keys:")
	h.check(h.World.Add("mx2.example.org. A 192.0.2.10"))
	h.check(h.World.Replace("example.com. MX 10 mx2.example.org."))
	if got := h.run("check"); got.code != report.CodeOK {
		t.Errorf("check: %+v", got)
	}
	if got := h.run("config", "show"); !strings.Contains(got.stdout, "mail_domains: [example.com]") || !strings.Contains(got.stdout, "mail_domains_confirm: 1s") || !strings.Contains(got.stdout, "public_addresses: [192.0.2.10]") {
		t.Errorf("config show: %s", got.stdout)
	}
	h.report(report.CodeOK, "renew")
	if got := h.run("status"); !strings.Contains(got.said(), "names mx.example.org, host7.example.org awaited mx2.example.org (MX of example.com): found at ") {
		t.Errorf("status: %s", got.stdout)
	}
	time.Sleep(1100 * time.Millisecond)
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Reasons["mx2.example.org"] != "MX of example.com" || c.Reasons["host7.example.org"] != "configured" || len(c.Missing) != 0 || h.placed() != 2 {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	if got := h.run("status"); !strings.Contains(got.said(), "names mx.example.org, host7.example.org (configured) names mx2.example.org (MX of example.com)") {
		t.Errorf("status: %s", got.stdout)
	}
	if got := h.run("history"); !strings.Contains(got.said(), "name-found") {
		t.Errorf("history: %s", got.stdout)
	}
}

// Who corrects a mail domain reads no more about the wrong one, although the last look was at that.
func TestMailDomainCorrected(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"nosuch.example"}})
	h.report(report.CodeOK, "renew")
	if got := h.run("status"); !strings.Contains(got.said(), "warning nosuch.example does not exist") {
		t.Errorf("status: %s", got.stdout)
	}
	h.edit("nosuch.example", "example.com")
	if got := h.run("status"); strings.Contains(got.said(), "nosuch") {
		t.Errorf("status: %s", got.stdout)
	}
}

// What is shown about names and senders fits 80 columns, however long.
func TestNamesAndSendersFit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("customer-with-a-long-name.", 4) + "example"
	c := report.New("mx", []string{"mx.example.org", long})
	at := time.Now().Add(-20 * time.Minute)
	c.Reasons = report.Reasons{"mx.example.org": "configured", long: "MX of " + long}
	c.Awaited = []report.Awaited{{Name: "mx3.example.org", Reason: "host name", Since: at, Until: at.Add(time.Hour)}}
	c.Leaving = []string{"mx4.example.org"}
	c.Senders = &report.Senders{At: at, Domains: []string{"a.example", "b.example", "c.example", "d.example", "e.example"},
		Findings: []finding.Finding{finding.New("senders-pkix", finding.Error, "no host of a.example is left for a sender that asks for a trusted certificate"), finding.New("x", finding.Warning, "y")}}
	var out bytes.Buffer
	printCertificate(plainSheet(&out), c)
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 && !strings.Contains(line, "customer-with") {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"(configured)", "(MX of " + long + ")", "awaited mx3.example.org (host name): found at", "leaving mx4.example.org:", "senders to a.example, b.example, c.example and 2 more meet 2 faults, seen 20 minutes ago, the worst: no host of a.example"} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s\n%s", want, out.String())
		}
	}
	c.Senders.Findings, c.Senders.Domains = nil, []string{"a.example"}
	out.Reset()
	if printCertificate(plainSheet(&out), c); !strings.Contains(out.String(), "to a.example meet no fault") {
		t.Errorf("%s", out.String())
	}
	text, err := json.Marshal(report.New("mx", []string{}))
	if err != nil || !slices.Contains(strings.Split(string(text), ","), `"reasons":{}`) {
		t.Errorf("%s, %v", text, err)
	}
}

// What the service's user can write about names and senders is printed, and obeyed by no terminal.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"example.com"}})
	h.report(report.CodeOK, "renew")
	const text = `\u001b]0;owned\u0007\u202e\u009b31m\nforged`
	for name, content := range map[string]string{
		"names.json": `{"version": 1, "seen": [{"name": "a` + text + `", "reason": "x", "wanted": true}, {"name": "mx9.example.org", "reason": "` + text + `", "since": {"at": "2026-01-01T00:00:00Z"}}],
			"findings": [{"id": "x", "severity": "error", "message": "` + text + `", "hint": "` + text + `"}]}`,
		"senders.json": `{"version": 1, "at": "2026-01-01T00:00:00Z", "domains": ["` + text + `"], "findings": [{"id": "x", "severity": "error", "message": "` + text + `", "hint": "` + text + `"}]}`,
	} {
		h.check(os.WriteFile(h.Path("state", "lineages", "mx", name), []byte(content), 0o600))
	}
	got := h.run("status")
	if list := obeyed(got.stdout + got.stderr); len(list) > 0 || strings.Contains(got.stdout, "\nforged") || !strings.Contains(got.stdout, "owned") || strings.Contains(got.stdout, "a]0;owned") || !strings.Contains(got.said(), "awaited mx9.example.org") {
		t.Errorf("status prints %q:\n%s\n%s", list, got.stdout, got.stderr)
	}
}

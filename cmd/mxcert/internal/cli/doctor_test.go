package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// examined runs doctor --json; the exit code must be the wanted one.
func (h *host) examined(code report.Code, args ...string) doctorReport {
	h.t.Helper()
	got := h.run(append([]string{"doctor", "--json"}, args...)...)
	var r doctorReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("doctor printed no JSON (%v):\n%s\n%s", err, got.stdout, got.stderr)
	}
	if got.code != code || r.OK != (code == report.CodeOK) {
		h.t.Errorf("doctor exited with %d, ok %v, want %d:%s", got.code, r.OK, code, r)
	}
	return r
}

// String lists the checks for a failing test.
func (r doctorReport) String() string {
	var text strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&text, "\n  %s %s [%s] %s: %s (%s)", c.Severity, c.ID, c.Certificate, c.Name, c.Message, c.Hint)
	}
	return text.String()
}

// has reports whether a check of that ID and severity says a text, in message or hint.
func (r doctorReport) has(id string, severity finding.Severity, says string) bool {
	for _, c := range r.Checks {
		if c.ID == id && c.Severity == severity && strings.Contains(c.Name+" "+c.Message+" "+c.Hint, says) {
			return true
		}
	}
	return false
}

// TestDoctor: one JSON document and an exit code; what is examined is tested in the room doctor.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		breaks func(h *host)
		args   []string
		code   report.Code
		finds  [3]string // ID, severity, text
		names  []string  // of the certificates that the checks belong to
	}{
		{"a host before its first order", nil, nil, report.CodeOK, [3]string{"certificate", "ok", "no ec256 certificate yet"}, []string{"", "mx"}},
		{"the certificate that is named", nil, []string{"mx"}, report.CodeOK, [3]string{"endpoint", "warning", "454"}, []string{"", "mx"}},
		{"a secret that is missing", func(h *host) { _ = os.Remove(h.Path("credentials", "tsig")) }, nil, report.CodeFault, [3]string{"secrets", "error", "dns.env.DNSUPDATE_TSIG_SECRET"}, []string{"", "mx"}},
		{"a configuration that cannot be read", func(h *host) { h.edit("domains:", "domians:") }, nil, report.CodeFault, [3]string{"configuration", "error", "domians"}, []string{""}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			if tt.breaks != nil {
				tt.breaks(h)
			}
			r := h.examined(tt.code, tt.args...)
			if !r.has(tt.finds[0], finding.Severity(tt.finds[1]), tt.finds[2]) {
				t.Errorf("not found: %q in%s", tt.finds, r)
			}
			var names []string
			for _, c := range r.Checks {
				if names = append(names, c.Certificate); c.ID == "" || c.Message == "" || c.Severity != finding.OK && c.Hint == "" || strings.Contains(c.Message+c.Hint, h.Secret()) {
					t.Errorf("no ID, message or hint, or the secret: %+v", c)
				}
			}
			if names = slices.Compact(names); !slices.Equal(names, tt.names) {
				t.Errorf("the checks belong to %q, want %q", names, tt.names)
			}
		})
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("doctor", "nothere"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "it has: mx") {
		t.Errorf("a name that is not configured: %+v", got)
	}
}

// TestDoctorAsksTheDaemon: what a running daemon finds with its secrets counts, because the renewals are its work. A daemon with another
// configuration is not asked, and what it would say is not known.
func TestDoctorAsksTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	if r := h.examined(report.CodeOK); !r.has("secrets", finding.OK, "can be read by the service") || !r.has("dns-provider", finding.OK, "rfc2136") {
		t.Errorf("%s", r)
	}
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(strings.Repeat("A", 43)+"="), 0o600))
	if r := h.examined(report.CodeFault); !r.has("dns-provider", finding.Error, "") || !r.has("secrets", finding.OK, "") {
		t.Errorf("a wrong secret: %s", r)
	}
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(h.Secret()), 0o600))
	d.stop()
	if r := h.examined(report.CodeOK); !r.has("secrets", finding.OK, "every secret of the configuration can be read") || r.has("secrets", finding.OK, "by the service") {
		t.Errorf("without the daemon: %s", r)
	}
}

// TestHeldSecrets: a secret that systemd hands to the service is no fault, and the next step names what gives it to a command.
func TestHeldSecrets(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit("file:"+h.Path("credentials", "tsig"), "cred:no-such-secret")
	config, err := configs.Load(h.config)
	h.check(err)
	const setting = "LoadCredentialEncrypted=no-such-secret:/etc/credstore.encrypted/mxcert.tsig"
	for _, tt := range []struct {
		held     held
		severity finding.Severity
		message  string
		hint     string
	}{
		{held{}, finding.Error, "not in /etc/mxcert/credentials", ""},
		{held{"another": setting}, finding.Error, "not in /etc/mxcert/credentials", ""},
		{held{"no-such-secret": setting}, finding.Warning, "dns.env.DNSUPDATE_TSIG_SECRET: systemd hands cred:no-such-secret only to mxcert.service (" + setting + ")",
			"systemctl start mxcert; or give them to the command: systemd-run --pipe --wait --quiet -p " + setting + " mxcert doctor"},
		{held{"no-such-secret": "SetCredentialEncrypted=no-such-secret"}, finding.Warning, "only to mxcert.service", "start the daemon, which has the secrets: systemctl start mxcert"},
	} {
		found := tt.held.findings(config)
		if len(found) != 1 || found[0].Severity != tt.severity || !strings.Contains(found[0].Message, tt.message) || !strings.HasSuffix(found[0].Hint, tt.hint) {
			t.Errorf("%v: %+v", tt.held, found)
		}
	}
}

// TestExplain: the error about a secret that only the service has says so, and no longer to put it into a file.
func TestExplain(t *testing.T) {
	t.Parallel()
	h := held{"tsig": "LoadCredentialEncrypted=tsig:/etc/credstore.encrypted/mxcert.tsig"}
	missing := errors.New("secret cred:tsig: not in /etc/mxcert/credentials: put the value there, mode 0640, owner root, group mxcert")
	err := h.explain("cred:tsig", missing, "renew")
	if want := "systemd hands cred:tsig only to mxcert.service (" + h["tsig"] + "), and no daemon answers"; err.Error() != want ||
		!strings.HasSuffix(report.HintOf(err), "systemd-run --pipe --wait --quiet -p "+h["tsig"]+" mxcert renew") || report.CodeOf(err) != report.CodePermission {
		t.Errorf("%v, %q, %d", err, report.HintOf(err), report.CodeOf(err))
	}
	for _, other := range []configs.Secret{"cred:tsig2", "file:/tsig", "tsig"} {
		if err := h.explain(other, missing, "renew"); err != missing { //nolint:errorlint // it must be the very error
			t.Errorf("%s: %v", other, err)
		}
	}
	if (held{}).explain("cred:tsig", missing, "renew") != missing || (held{}).hint("renew") != "" { //nolint:errorlint // see above
		t.Error("the service has no secrets")
	}
}

// TestDoctorForPeople: one group for the host and one for each certificate, words beside the signs, and the verdict.
func TestDoctorForPeople(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	got := h.run("doctor")
	for _, line := range []string{"this host\n  ✓ ok      configuration", "\nmx\n  ✓ ok      certificate", "  ✓ ok      caa ", "0 errors, ", "nothing found that would make a renewal fail"} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("%q is not in\n%s", line, got.stdout)
		}
	}
	if got.code != report.CodeOK || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := h.run("doctor", "-q"); got.code != report.CodeOK || got.stdout != "" {
		t.Errorf("quiet: code %d, %q", got.code, got.stdout)
	}
	h.check(h.SMTP.Close())
	got = h.run("doctor", "-q")
	if got.code != report.CodeFault || !strings.Contains(got.stdout, "  ✗ error   endpoint") || !strings.Contains(got.stdout, "next step: ") || !strings.Contains(got.stdout, "1 error, ") {
		t.Errorf("a fault: code %d\n%s", got.code, got.stdout)
	}
}

// TestDoctorEnds: what hangs is named, and the rest is told all the same.
func TestDoctorEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.SMTP.SetFaults(smtpd.Faults{GreetingDelay: time.Hour})
	r := h.examined(report.CodeFault, "--timeout", "8s") // enough for the rest
	if !r.has("endpoint", "error", "") || !r.has("ca", "ok", "answers") {
		t.Errorf("found:%s", r)
	}
}

// TestNoOrderThatWouldFail: what doctor finds to be certain to fail is not asked of the CA, and costs nothing there.
func TestNoOrderThatWouldFail(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.Add(`example.org. CAA 0 issue "other.example"`))
	c := h.report(report.CodeFailed, "renew").Certificates[0]
	if c.Error.Stage != "preflight" || c.Error.Kind != "caa" || !strings.Contains(c.Error.Message, "other.example") || !strings.Contains(c.Error.Hint, "CAA 0 issue") {
		t.Errorf("got %+v", c.Error)
	}
	if n := h.CA.Count(ca.NewOrder, ca.NewAccount); n != 0 || len(h.World.Updates()) != 0 {
		t.Errorf("%d requests, %d updates", n, len(h.World.Updates()))
	}
	h.check(h.World.Replace(`example.org. CAA 0 issue "pebble.letsencrypt.org"`))
	h.report(report.CodeOK, "renew")
}

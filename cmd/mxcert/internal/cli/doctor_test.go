package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"

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

func (r doctorReport) count(severity finding.Severity) (n int) {
	for _, c := range r.Checks {
		if c.Severity == severity {
			n++
		}
	}
	return n
}

// traces describes everything that doctor must leave as it is.
func (h *host) traces() string {
	h.t.Helper()
	var files []string
	for _, dir := range []string{"state", "tls", "hooks", "credentials"} {
		_ = filepath.Walk(h.Path(dir), func(path string, info os.FileInfo, err error) error {
			if err == nil {
				files = append(files, fmt.Sprint(path, info.ModTime(), info.Size(), info.Mode()))
			}
			return nil
		})
	}
	return fmt.Sprintf("zones %d %d\norders %d, accounts %d\n%s", h.World.Serial(lab.Zone), h.World.Serial(lab.OtherZone),
		h.CA.Count(ca.NewOrder), h.CA.Count(ca.NewAccount), strings.Join(files, "\n"))
}

// TestDoctor breaks one thing after another, and finds each, and only that.
func TestDoctor(t *testing.T) {
	t.Parallel()
	type finds struct {
		id       string
		severity finding.Severity
		says     string
	}
	for _, tt := range []struct {
		what    string
		options lab.Options
		config  lab.ConfigOptions
		renewed bool // a certificate is in service
		breaks  func(h *host)
		args    []string
		finds   []finds
		errors  int // at least one, where any is wanted: what is broken may show in several places
	}{
		{what: "a host before its first order", finds: []finds{{"certificate", "ok", "no ec256 certificate yet"}, {"account", "ok", "the first order registers one"}, {"ca", "ok", "answers"}, {"clock", "ok", "agree"},
			{"dns-provider", "ok", "lets it change"}, {"caa", "ok", "no CAA"}, {"challenge", "ok", "_acme-challenge.mx.example.org"}, {"delegation", "ok", "SOA serial"}, {"dnssec", "ok", ""}, {"profile", "ok", "default"},
			{"deploy", "ok", "can be written"}, {"endpoint", "warning", "454"}, {"renewal-info", "ok", "RFC 9773"}, {"hooks", "ok", "0 hooks"}, {"state", "ok", ""}, {"secrets", "ok", ""}, {"configuration", "ok", "no fault"}, {"daemon", "ok", "no daemon"}}},
		{what: "a host whose certificate is in service", renewed: true, finds: []finds{{"certificate", "ok", "renewal is due"}, {"account", "ok", "is valid"}, {"endpoint", "ok", "serves the certificate with serial"}}},
		{what: "a secret that is missing", breaks: func(h *host) { _ = os.Remove(h.Path("credentials", "tsig")) }, errors: 2,
			finds: []finds{{"secrets", "error", "dns.env.DNSUPDATE_TSIG_SECRET"}, {"dns-provider", "error", "DNSUPDATE_TSIG_SECRET"}, {"ca", "ok", ""}, {"caa", "ok", ""}}},
		{what: "a wrong TSIG key", breaks: func(h *host) { h.secret("AAAA" + h.Secret()[4:]) }, errors: 1, finds: []finds{{"dns-provider", "error", "BADSIG"}}},
		{what: "updates are refused", breaks: func(h *host) { h.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused}) }, errors: 1, finds: []finds{{"dns-provider", "error", "REFUSED"}}},
		{what: "a CA that is away", breaks: func(h *host) { h.check(h.CA.Close()) }, errors: 1, finds: []finds{{"ca", "error", "connection refused"}}},
		{what: "a CA that wants a binding", options: lab.Options{CA: ca.Options{EAB: map[string]string{"kid": "AAAA"}}}, errors: 1, finds: []finds{{"account", "error", "acme.eab"}}},
		{what: "an account that the CA has lost", renewed: true, breaks: func(h *host) { h.loseAccount() }, finds: []finds{{"account", "warning", "no longer knows the account"}}},
		{what: "CAA for another CA", breaks: func(h *host) { h.check(h.World.Add(`example.org. CAA 0 issue "other.example"`)) }, errors: 2, finds: []finds{{"caa", "error", "other.example"}}},
		{what: "a bogus zone", breaks: func(h *host) { h.check(h.World.SetTrust(lab.Zone, nameserver.Bogus)) }, errors: 1, finds: []finds{{"dnssec", "error", "example.org"}, {"dns-provider", "warning", "were not tested"}}},
		{what: "a server that is dead", options: lab.Options{Secondaries: 1}, breaks: func(h *host) { h.Secondaries[0].SetFaults(nameserver.Faults{Dead: true}) }, finds: []finds{{"delegation", "warning", "ns2.example.org"}}},
		{what: "a profile that the CA has not", config: lab.ConfigOptions{Profile: "none"}, errors: 1, finds: []finds{{"profile", "error", "none"}}},
		{what: "a directory that is not there", breaks: func(h *host) { h.check(os.RemoveAll(h.Path("tls"))) }, errors: 1, finds: []finds{{"deploy", "error", "tls"}}},
		{what: "a unit that is not there", config: lab.ConfigOptions{Extra: ""}, breaks: func(h *host) { h.edit("files: {", `files: {unit: "no-such-mail-server.service", `) }, errors: 1, finds: []finds{{"unit", "error", "no-such-mail-server.service"}}},
		{what: "a server that is away", breaks: func(h *host) { h.check(h.SMTP.Close()) }, errors: 1, finds: []finds{{"endpoint", "error", "connection refused"}}},
		{what: "a server without TLS", breaks: func(h *host) { h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true}) }, finds: []finds{{"endpoint", "warning", "STARTTLS"}}},
		{what: "another certificate is served", renewed: true, breaks: func(h *host) { h.serveOther() }, finds: []finds{{"endpoint", "warning", "is current"}}},
		{what: "hooks that would be refused", breaks: func(h *host) {
			h.check(os.MkdirAll(h.Path("hooks", "deploy.d"), 0o700))
			h.check(os.WriteFile(h.Path("hooks", "deploy.d", "10-open"), nil, 0o600))
			h.check(os.Chmod(h.Path("hooks", "deploy.d", "10-open"), 0o777))
			h.check(os.WriteFile(h.Path("hooks", "deploy.d", "20-plain"), nil, 0o600))
		}, errors: 1, finds: []finds{{"hooks", "error", "10-open"}, {"hooks", "warning", "chmod +x"}}},
		{what: "a damaged record", renewed: true, breaks: func(h *host) {
			h.check(os.WriteFile(h.Path("state", "lineages", "mx", "record.json"), []byte("{"), 0o600))
		},
			finds: []finds{{"state", "warning", "record.json"}, {"certificate", "warning", "record"}, {"certificate", "ok", "renewal is due"}}},
		{what: "what a killed run left", renewed: true, breaks: func(h *host) {
			h.check(os.WriteFile(h.Path("state", "journal", "mx.1.json"), []byte(`{"version":1}`), 0o600))
		},
			finds: []finds{{"state", "warning", "earlier order"}}},
		{what: "roots that cannot be read", breaks: func(h *host) { _ = os.Remove(h.Path("ca.pem")) }, errors: 2, finds: []finds{{"configuration", "error", "ca_file"}, {"ca", "error", ""}, {"dns-provider", "ok", ""}}},
		{what: "a provider that is misspelt", breaks: func(h *host) { h.edit("provider: rfc2136", "provider: rfc2137") }, errors: 2, finds: []finds{{"configuration", "error", "rfc2137"}, {"dns-provider", "error", "rfc2137"}, {"caa", "ok", ""}}},
		{what: "another certificate is named", args: []string{"mx"}, finds: []finds{{"certificate", "ok", ""}}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tt.options, tt.config)
			if tt.renewed {
				h.report(report.CodeOK, "renew", "--now")
			}
			if tt.breaks != nil {
				tt.breaks(h)
			}
			before := h.traces()
			code := report.CodeOK
			if tt.errors > 0 {
				code = report.CodeFault
			}
			r := h.examined(code, tt.args...)
			for _, f := range tt.finds {
				if !r.has(f.id, f.severity, f.says) {
					t.Errorf("not found: %+v in%s", f, r)
				}
			}
			if got := r.count(finding.Error); got != tt.errors {
				t.Errorf("%d errors, want %d:%s", got, tt.errors, r)
			}
			if after := h.traces(); after != before {
				t.Errorf("something has changed:\n%s\nbefore:\n%s", after, before)
			}
			for _, c := range r.Checks {
				if c.Severity != finding.OK && c.Hint == "" || strings.Contains(c.Message+c.Hint, h.Secret()) {
					t.Errorf("no hint, or the secret: %+v", c)
				}
			}
		})
	}
}

// loseAccount makes the CA not know the account that is stored.
func (h *host) loseAccount() {
	h.t.Helper()
	files, err := filepath.Glob(h.Path("state", "accounts", "*", "account.json"))
	h.check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		h.check(err)
		h.check(os.WriteFile(file, regexp.MustCompile(`("url": ".*/)[^/"]+"`).ReplaceAll(text, []byte(`${1}gone"`)), 0o600))
	}
}

// serveOther puts the files of an earlier certificate back.
func (h *host) serveOther() {
	h.t.Helper()
	before := map[string][]byte{}
	for _, name := range []string{"mx.crt", "mx.key"} {
		text, err := os.ReadFile(h.Path("tls", name))
		h.check(err)
		before[name] = text
	}
	h.report(report.CodeOK, "renew", "--now")
	for name, text := range before {
		h.check(os.WriteFile(h.Path("tls", name), text, 0o640))
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
	r := h.examined(report.CodeFault, "--timeout", "3s")
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

package cli

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// verified runs verify with --json and reads its report; the exit code must be the wanted one.
func (h *host) verified(code report.Code, args ...string) verifyReport {
	h.t.Helper()
	got := h.run(append([]string{"verify", "--json"}, args...)...)
	var r verifyReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != code || r.OK != (code == report.CodeOK) {
		h.t.Fatalf("verify exited with %d, want %d (%v):\n%s%s", got.code, code, err, got.stdout, got.stderr)
	}
	return r
}

func (r hostReport) finds(id string) bool {
	return slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.ID == id && f.Message != "" })
}

// What verify makes of what a server shows, and of what it does not show.
func TestVerify(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if r := h.verified(report.CodeFault); !r.Hosts[0].finds("tls-unavailable") || r.Hosts[0].Verdicts["opportunistic"].Result != "fail" {
		t.Errorf("without a certificate: %+v", r)
	}
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	r := h.verified(report.CodeOK)
	address, _, _ := net.SplitHostPort(h.SMTP.Address())
	if good := r.Hosts[0]; len(r.Hosts) != 1 || good.MX != "mx.example.org" || good.Address != address || good.Port == 0 || len(good.Handshakes) < 2 ||
		good.Handshakes[0].Serial != first.Serial || !good.Handshakes[0].Matches {
		t.Errorf("%+v", r)
	}
	for kind, want := range map[verdict.Kind]verdict.Result{"opportunistic": "pass", "pkix": "pass", "dane": "n/a", "mta_sts": "n/a", "requiretls": "pass"} {
		if got := r.Hosts[0].Verdicts[kind]; got.Result != want || got.Reason == "" {
			t.Errorf("%s: %+v, want %s", kind, got, want)
		}
	}
	plain := h.run("verify")
	for _, want := range []string{"mx.example.org at " + h.SMTP.Address(), "serial " + first.Serial, "opportunistic pass, deliver:", "dane         not judged:"} {
		if !strings.Contains(plain.stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, plain.stdout)
		}
	}
	if quiet := h.run("verify", "-q"); quiet.code != report.CodeOK || quiet.stdout+quiet.stderr != "" {
		t.Errorf("with -q: %+v", quiet)
	}

	// The server goes on with what was current before.
	second := h.report(report.CodeOK, "renew", "--now").Certificates[0].Keys[0]
	old, err := filepath.Glob(h.Path("state", "lineages", "mx", "2*", "fullchain.pem"))
	h.check(err)
	text, err := os.ReadFile(old[0])
	h.check(err)
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), text, 0o640))
	if r = h.verified(report.CodeFault); !r.Hosts[0].finds("not-current") || r.Hosts[0].Handshakes[0].Matches {
		t.Errorf("an old certificate: %+v", r)
	}
	plain = h.run("verify", "-q")
	if plain.code != report.CodeFault || !strings.Contains(plain.said(), "serial "+first.Serial+" is served, but serial "+second.Serial+" is current") || !strings.Contains(plain.stdout, "next step    run: mxcert renew") {
		t.Errorf("exit code %d:\n%s", plain.code, plain.stdout)
	}
	// The state is lost: what is served was not issued through mxcert, as far as is known.
	h.check(os.Rename(h.Path("state"), h.Path("moved")))
	if r = h.verified(report.CodeFault); !r.Hosts[0].finds("not-current") || !strings.Contains(h.run("verify").said(), "was not issued through mxcert") {
		t.Errorf("a foreign certificate: %+v", r)
	}
	h.check(os.Rename(h.Path("moved"), h.Path("state")))

	h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	if r = h.verified(report.CodeFault); !r.Hosts[0].finds("starttls-not-supported") {
		t.Errorf("without STARTTLS: %+v", r)
	}
	h.check(h.SMTP.Close())
	if r = h.verified(report.CodeFault); !r.Hosts[0].finds("connection-refused") || r.Hosts[0].Handshakes[0].Error == "" || !r.Hosts[0].Verdicts["pkix"].NotJudged {
		t.Errorf("a closed port: %+v", r)
	}
}

// A host by name needs no configuration.
func TestVerifyHost(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	h.check(os.Remove(h.config))
	_, port, err := net.SplitHostPort(h.SMTP.Address())
	h.check(err)
	r := h.verified(report.CodeFault, "--host", "127.0.0.1", "--port", port)
	if len(r.Hosts) != 1 || r.Hosts[0].MX != "127.0.0.1" || r.Hosts[0].Verdicts["opportunistic"].Result != "pass" || r.Hosts[0].Verdicts["pkix"].Result != "fail" {
		t.Errorf("%+v", r)
	}
	if got := h.run("verify", "--host", "mx.example.invalid"); got.code != report.CodeFault || !strings.Contains(got.stdout, "mx-host-missing: mx.example.invalid has no address") {
		t.Errorf("%+v", got)
	}
}

// Where nothing serves the certificate, verify says that it has seen nothing.
func TestVerifyWithoutEndpoints(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	if got := h.run("verify"); got.code != report.CodeOK || !strings.Contains(got.stdout, "mx: no endpoint configured") {
		t.Errorf("%+v", got)
	}
	if r := h.verified(report.CodeOK); len(r.Hosts) != 0 {
		t.Errorf("%+v", r)
	}
}

// A root that nobody knows is a fault only if acme.roots_file says which roots count. Otherwise the verdict says that it is not counted.
func TestVerifyOfAPrivateCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	h.edit("  roots_file: "+strconv.Quote(h.Path("roots.pem"))+"\n", "")
	r := h.verified(report.CodeOK)
	if v := r.Hosts[0].Verdicts["pkix"]; v.Result != "fail" || !strings.HasPrefix(v.NotCounted, "not counted, because acme.roots_file is not set") {
		t.Errorf("%+v", v)
	}
	if got := h.run("verify"); got.code != report.CodeOK || !strings.Contains(got.said(), "(not counted, because acme.roots_file is not set, and a private CA may be meant)") {
		t.Errorf("%+v", got)
	}
	h.edit("acme:\n", "acme:\n  roots_file: "+strconv.Quote(h.Path("ca.pem"))+"\n")
	if v := h.verified(report.CodeFault).Hosts[0].Verdicts["pkix"]; v.Result != "fail" || v.NotCounted != "" {
		t.Errorf("%+v", v)
	}
}

// With mail domains, verify also looks at what their senders meet.
func TestVerifyMailDomains(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"example.org", "example.com"}})
	h.report(report.CodeOK, "renew")
	got := h.run("verify", "--json", "--for", "pkix") // nothing listens on port 25 of this machine, or somebody else
	var r verifyReport
	h.check(json.Unmarshal([]byte(got.stdout), &r))
	if len(r.Domains) != 2 || r.Domains[0].Domain != "example.org" || len(r.Domains[0].MX) != 1 || r.Domains[1].MX[0].Host != "mx.example.org" {
		t.Fatalf("domains: %+v", r.Domains)
	}
	if len(r.Hosts) != 3 || r.Hosts[0].Domain != "" || r.Hosts[0].Port == 25 || !r.Hosts[0].Handshakes[0].Matches || r.Hosts[1].Domain != "example.org" || r.Hosts[1].Port != 25 || r.Hosts[2].MX != "mx.example.org" {
		t.Errorf("hosts: %+v", r.Hosts)
	}
}

// An endpoint may be named; one that has no address is a fault.
func TestVerifyNamedEndpoint(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	_, port, err := net.SplitHostPort(h.SMTP.Address())
	h.check(err)
	h.edit(h.SMTP.Address(), "localhost:"+port)
	if r := h.verified(report.CodeOK); r.Hosts[0].Address != "localhost" || !r.Hosts[0].Handshakes[0].Matches {
		t.Errorf("%+v", r)
	}
	h.edit("localhost:"+port, "nosuch.invalid:"+port)
	if r := h.verified(report.CodeFault); !r.Hosts[0].finds("name-not-found") || r.Hosts[0].Address != "nosuch.invalid" {
		t.Errorf("%+v", r)
	}
}

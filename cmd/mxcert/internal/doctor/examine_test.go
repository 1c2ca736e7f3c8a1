package doctor

import (
	"context"
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
)

// TestExamine breaks one thing after another, and finds each, and only that.
func TestExamine(t *testing.T) {
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
		finds   []finds
		errors  int // at least one, where any is wanted: what is broken may show in several places
	}{
		{what: "a host before its first order", finds: []finds{{"certificate", "ok", "no ec256 certificate yet"}, {"account", "ok", "the first order registers one"}, {"ca", "ok", "answers"}, {"clock", "ok", "agree"},
			{"dns-provider", "ok", "lets it change"}, {"caa", "ok", "no CAA"}, {"challenge", "ok", "_acme-challenge.mx.example.org"}, {"delegation", "ok", "SOA serial"}, {"dnssec", "ok", ""}, {"profile", "ok", "default"},
			{"deploy", "ok", "can be written"}, {"endpoint", "warning", "454"}, {"renewal-info", "ok", "RFC 9773"}, {"limits", "ok", "acme.limits is not set: mxcert asks"}, {"hooks", "ok", "0 hooks"}, {"state", "ok", ""}, {"secrets", "ok", ""}, {"configuration", "ok", "no fault"}, {"daemon", "ok", "no daemon"}}},
		{what: "a host whose certificate is in service", renewed: true, finds: []finds{{"certificate", "ok", "renewal is due"}, {"account", "ok", "is valid"}, {"endpoint", "ok", "serves the certificate with serial"}}},
		{what: "a secret that is missing", breaks: func(h *host) { _ = os.Remove(h.Path("credentials", "tsig")) }, errors: 2,
			finds: []finds{{"secrets", "error", "dns.env.DNSUPDATE_TSIG_SECRET"}, {"dns-provider", "error", "DNSUPDATE_TSIG_SECRET"}, {"ca", "ok", ""}, {"caa", "ok", ""}}},
		{what: "a wrong TSIG key", breaks: func(h *host) { h.secret("AAAA" + h.Secret()[4:]) }, errors: 1, finds: []finds{{"dns-provider", "error", "BADSIG"}}},
		{what: "updates are refused", breaks: func(h *host) { h.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused}) }, errors: 1, finds: []finds{{"dns-provider", "error", "REFUSED"}}},
		{what: "a CA that is away", breaks: func(h *host) { h.check(h.CA.Close()) }, errors: 1, finds: []finds{{"ca", "error", "127.0.0.1"}}},
		{what: "a CA that wants a binding", options: lab.Options{CA: ca.Options{EAB: map[string]string{"kid": "AAAA"}}}, errors: 1, finds: []finds{{"account", "error", "acme.eab"}}},
		{what: "an account that the CA has lost", renewed: true, breaks: func(h *host) { h.loseAccount() }, finds: []finds{{"account", "warning", "no longer knows the account"}}},
		{what: "CAA for another CA", breaks: func(h *host) { h.check(h.World.Add(`example.org. CAA 0 issue "other.example"`)) }, errors: 2, finds: []finds{{"caa", "error", "other.example"}}},
		{what: "CAA for another CA at an optional name", config: lab.ConfigOptions{Optional: []string{"mail.example.com"}},
			breaks: func(h *host) { h.check(h.World.Add(`mail.example.com. CAA 0 issue "other.example"`)) }, finds: []finds{{"caa", "warning", "an order leaves them out"}, {"caa", "ok", "no CAA"}}},
		{what: "updates for an optional name are refused", config: lab.ConfigOptions{Optional: []string{"mail.example.com"}},
			breaks: func(h *host) { h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone)) },
			finds:  []finds{{"dns-provider", "ok", "lets it change"}, {"dns-provider", "warning", "mail.example.com is optional"}}},
		{what: "a name that is left out", config: lab.ConfigOptions{Optional: []string{"mail.example.com"}}, breaks: func(h *host) {
			h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone))
			h.renew()
		}, finds: []finds{{"certificate", "warning", "mail.example.com is left out since"}}},
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
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tt.options, tt.config)
			if tt.renewed {
				h.renew()
			}
			if tt.breaks != nil {
				tt.breaks(h)
			}
			before := h.traces()
			r := h.examine(t.Context())
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
			for _, c := range r {
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
	h.renew()
	for name, text := range before {
		h.check(os.WriteFile(h.Path("tls", name), text, 0o640))
	}
}

// What hangs is named when the time is over, and the rest is reported all the same.
func TestExamineEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.SMTP.SetFaults(smtpd.Faults{GreetingDelay: time.Hour})
	const limit = 6 * time.Second // enough for the rest
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	r := h.examine(ctx)
	if !r.has("endpoint", "error", "") || !r.has("ca", "ok", "answers") || time.Since(start) > greetingTime {
		t.Errorf("found in %s:%s", time.Since(start), r)
	}
}

package wanted_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// config loads a configuration that has no fault of its own.
func config(t *testing.T, text string) *configs.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mxcert.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// edited is the good configuration with changes: old and new text in turn.
func edited(t *testing.T, changes ...string) string {
	t.Helper()
	text := good
	for pair := range slices.Chunk(changes, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("the configuration has no %q", pair[0])
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	return text
}

// own gives the second certificate a DNS section of its own.
func own(dns string) []string {
	return []string{`    domains: ["*.lists`, "    dns: " + dns + "\n" + `    domains: ["*.lists`}
}

// zoned gives the section of all certificates zones.
func zoned(zones string) []string { return []string{"dns: {", "dns: {zones: " + zones + ", "} }

// Faults that the configuration alone cannot know are reported all at once, each at its place, once, with what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what    string
		changes []string
		want    []string // path:line: text
	}{
		{"nothing", nil, nil},
		{"roots that are not there", []string{"acme: {", "acme: {roots_file: /nonexistent/roots.pem, "}, []string{"acme.roots_file:1: no such file"}},
		{"roots that are none", []string{"acme: {", "acme: {roots_file: " + empty + ", "}, []string{"acme.roots_file:1: holds no PEM certificate"}},
		{"roots of the CA's own server", []string{"acme: {", "acme: {ca_file: " + empty + ", "}, []string{"acme.ca_file:1: holds no PEM certificate"}},
		{"a provider of both certificates", []string{"provider: rfc2136", "provider: rfc2137"}, []string{"dns.provider:2: rfc2137"}},
		{"a provider of one", own(`{provider: nonsense}`), []string{"certificates[1].dns.provider:12: nonsense"}},
		{"two providers", append(own(`{provider: nonsense}`), "provider: rfc2136", "provider: rfc2137"), []string{"dns.provider:2: rfc2137", "certificates[1].dns.provider:12: nonsense"}},
		{"a variable that nothing reads", []string{"DNSUPDATE_TSIG_SECRET", "PATH"}, []string{"dns.env:2: PATH"}},
		{"a variable of one", own(`{env: {LD_PRELOAD: "/tmp/x"}}`), []string{"certificates[1].dns.env:12: LD_PRELOAD"}},
		{"a provider of a zone", zoned(`{example.net: {provider: rfc2137}}`), []string{"dns.zones[example.net].provider:2: rfc2137"}},
		{"a variable of a zone", zoned(`{Example.NET.: {provider: rfc2136, env: {DNSUPDATE_TSIG_SECERT: "cred:net"}}}`), []string{"dns.zones[Example.NET.].env:2: DNSUPDATE_TSIG_SECERT"}},
		{"a zone of one", own(`{zones: {example.net: {provider: nonsense}}}`), []string{"certificates[1].dns.zones[example.net].provider:12: nonsense"}},
		{"only a zone", []string{"provider: rfc2136", "zones: {example.org: {provider: exec}}", `, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET: "cred:tsig"}`, ""}, nil},
		{"roots and a provider", []string{"acme: {", "acme: {roots_file: " + empty + ", ca_file: " + empty + ", ", "provider: rfc2136", "provider: rfc2137"},
			[]string{"acme.ca_file:1: holds no", "acme.roots_file:1: holds no", "dns.provider:2: rfc2137"}},
	} {
		err := wanted.Check(config(t, edited(t, tt.changes...)))
		if len(tt.want) == 0 {
			if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		problems, ok := errors.AsType[*configs.Problems](err)
		if !ok {
			t.Errorf("%s: %v", tt.what, err)
			continue
		}
		var got []string
		for i, p := range problems.List {
			got = append(got, fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Message))
			if i < len(tt.want) {
				place, text, _ := strings.Cut(tt.want[i], ": ")
				if !strings.HasPrefix(got[i], place+": ") || !strings.Contains(p.Message, text) || p.Hint == "" {
					t.Errorf("%s: %+v, want %q", tt.what, p, tt.want[i])
				}
			}
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

// A secret that cannot be read is named by its setting, once, and never shown.
func TestUnreadableSecrets(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	t.Setenv("MXCERT_TEST_SECRET", "c2VjcmV0")
	for _, tt := range []struct {
		what    string
		changes []string
		want    []string
	}{
		{"one that both certificates use", nil, []string{"dns.env.DNSUPDATE_TSIG_SECRET"}},
		{"one that is there", []string{"cred:tsig", "env:MXCERT_TEST_SECRET"}, nil},
		{"a literal one", []string{"cred:tsig", "c2VjcmV0"}, nil},
		{"one of a certificate", append(own(`{env: {DNSUPDATE_TSIG_SECRET: "file:/nonexistent/tsig"}}`), "cred:tsig", "env:MXCERT_TEST_SECRET"), []string{"certificates[1].dns.env.DNSUPDATE_TSIG_SECRET"}},
		{"two variables", []string{"cred:tsig", "cred:tsig\", DNSUPDATE_TSIG_KEY: \"cred:key"}, []string{"dns.env.DNSUPDATE_TSIG_KEY", "dns.env.DNSUPDATE_TSIG_SECRET"}},
		{"one of a zone", append(zoned(`{example.net: {provider: exec, env: {TOKEN: "cred:net"}}}`), "cred:tsig", "env:MXCERT_TEST_SECRET"), []string{"dns.zones[example.net].env.TOKEN"}},
		{"one of a zone of a certificate", append(own(`{zones: {example.net: {provider: exec, env: {TOKEN: "cred:net"}}}}`), "cred:tsig", "env:MXCERT_TEST_SECRET"), []string{"certificates[1].dns.zones[example.net].env.TOKEN"}},
		{"a binding", []string{"acme: {", `acme: {eab: {kid: "1", hmac_key: "cred:eab"}, `, "cred:tsig", "env:MXCERT_TEST_SECRET"}, []string{"acme.eab.hmac_key"}},
		{"the second of two bindings", []string{`acme: {agree_tos: true, directory: "https://ca.example/directory"`,
			`acme: {agree_tos: true, directory: ["https://ca.example/directory", "https://other.example/directory"], eab: [{directory: "https://ca.example/directory", kid: "1", hmac_key: "env:MXCERT_TEST_SECRET"}, {directory: "https://other.example/directory", kid: "2", hmac_key: "cred:eab"}]`,
			"cred:tsig", "env:MXCERT_TEST_SECRET"}, []string{"acme.eab[1].hmac_key"}},
	} {
		c := config(t, edited(t, tt.changes...))
		var got []string
		for _, p := range wanted.UnreadableSecrets(c) {
			setting, _, _ := strings.Cut(p.Message, ": ")
			got = append(got, setting)
			if p.Line == 0 || strings.Contains(p.Message+p.Hint, "c2VjcmV0") {
				t.Errorf("%s: %+v", tt.what, p)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
		if err := wanted.Check(c); err != nil {
			t.Errorf("%s is no fault of the configuration: %v", tt.what, err)
		}
	}
}

// A variable that looks like another one is suspicious, in the section above and in that of a certificate.
func TestMisspeltVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		changes []string
		want    []string
	}{
		{"nothing", nil, nil},
		{"one that is a fault", []string{"DNSUPDATE_TSIG_SECRET", "DNSUPDATE_TSIG_SECERT"}, nil},
		{"one for both certificates", []string{"rfc2136", "cloudflare", "DNSUPDATE_TSIG_SECRET", "CF_DNS_API_TOKNE"}, []string{"dns.env.CF_DNS_API_TOKNE"}},
		{"one of a certificate", own(`{provider: cloudflare, env: {CF_DNS_API_TOKNE: "cred:token"}}`), []string{"certificates[1].dns.env.CF_DNS_API_TOKNE"}},
		{"one of a zone", zoned(`{example.net: {provider: cloudflare, env: {CF_DNS_API_TOKNE: "cred:token"}}}`), []string{"dns.zones[example.net].env.CF_DNS_API_TOKNE"}},
		{"one of a certificate with the variables of all", append(own(`{provider: cloudflare, env: {CF_DNS_API_TOKNE: "cred:tsig"}}`), "rfc2136", "exec", `DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET`, "CF_DNS_API_TOKNE"),
			[]string{"certificates[1].dns.env.CF_DNS_API_TOKNE"}},
	} {
		c := config(t, edited(t, tt.changes...))
		var got []string
		for _, p := range wanted.MisspeltVariables(c) {
			setting, text, _ := strings.Cut(p.Message, ": ")
			got = append(got, setting)
			if p.Line == 0 || !strings.Contains(text, "provider cloudflare has no such variable; did you mean CF_DNS_API_TOKEN?") || p.Hint != "`mxcert providers cloudflare` lists them" {
				t.Errorf("%s: %+v", tt.what, p)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

// What doctor says about the files: faults, then what is suspicious, and secrets apart.
func TestInspect(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	for _, tt := range []struct {
		what                   string
		changes                []string
		configuration, secrets []string // severity and text
	}{
		{"a secret that is not in place", nil, nil, []string{"error dns.env.DNSUPDATE_TSIG_SECRET"}},
		{"a secret in the file", []string{"cred:tsig", "c2VjcmV0"}, []string{"warning the secret stands in the configuration file"}, nil},
		{"a variable that is misspelt", []string{"rfc2136", "cloudflare", `DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET`, "CF_DNS_API_TOKNE"}, []string{"warning did you mean CF_DNS_API_TOKEN?"}, []string{"error dns.env.CF_DNS_API_TOKNE"}},
		{"a fault and a secret in the file", []string{"cred:tsig", "c2VjcmV0", "provider: rfc2136", "provider: rfc2137"}, []string{"error rfc2137", "warning the secret stands"}, nil},
	} {
		configuration, secrets := wanted.Inspect(config(t, edited(t, tt.changes...)))
		compare := func(where string, got []finding.Finding, want []string) {
			for i, f := range got {
				severity, text := "", ""
				if i < len(want) {
					severity, text, _ = strings.Cut(want[i], " ")
				}
				if string(f.Severity) != severity || !strings.Contains(f.Message, text) || !strings.Contains(f.Message, "mxcert.yaml:2:") {
					t.Errorf("%s, %s %d: %+v, want %q", tt.what, where, i, f, want)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s, %s: %+v, want %q", tt.what, where, got, want)
			}
		}
		compare("configuration", configuration, tt.configuration)
		compare("secrets", secrets, tt.secrets)
	}
}

// The place is left out if it is not known.
func TestFindings(t *testing.T) {
	t.Parallel()
	got := wanted.Findings([]configs.Problem{{File: "a.yaml", Line: 3, Column: 5, Message: "100% wrong", Hint: "fix it"}, {File: "a.yaml", Message: "cannot be read"}}, finding.Error)
	want := []finding.Finding{{Severity: finding.Error, Message: "a.yaml:3:5: 100% wrong", Hint: "fix it"}, {Severity: finding.Error, Message: "a.yaml: cannot be read"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := wanted.Findings(nil, finding.Error); len(got) != 0 {
		t.Errorf("without problems: %+v", got)
	}
}

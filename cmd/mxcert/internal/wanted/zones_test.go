package wanted_test

import (
	"errors"
	"strings"
	"testing"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/configs"
)

const zonesOfTest = `{Example.NET.: {provider: exec, env: {EXEC_PATH: /bin/true, TOKEN: "env:MXCERT_TEST_SECRET"}}, dev.example.net: {provider: certbot-hook, env: {CERTBOT_AUTH_HOOK: /bin/true}}}`

// The accounts of a certificate are those of its zones and of dns.provider; each reads its own secrets, when it is needed.
func TestAccounts(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	mx := load(t, edited(t, zoned(zonesOfTest)...)).Certificates[0]
	accounts := mx.Accounts(mx.Resolver())
	for _, tt := range []struct{ place, zone, provider, says string }{
		{"_acme-challenge.mx.example.org.", "", "rfc2136", "dns.env.DNSUPDATE_TSIG_SECRET: secret cred:tsig"},
		{"_acme-challenge.mx.example.net.", "example.net", "exec", "dns.zones[Example.NET.].env.TOKEN: secret env:MXCERT_TEST_SECRET"},
		{"_acme-challenge.mx.dev.example.net.", "dev.example.net", "certbot-hook", ""},
	} {
		account, found := accounts.Of(resolve.Place{Name: tt.place})
		if !found || account.Zone != tt.zone || account.Provider != tt.provider {
			t.Errorf("%s: %v, %v", tt.place, account, found)
			continue
		}
		if _, err := account.Solver(); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.place, err, tt.says)
		}
	}
	without := load(t, edited(t, append(zoned(zonesOfTest), "provider: rfc2136", `resolvers: ["192.0.2.53"]`,
		`, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET: "cred:tsig"}`, "")...)).Certificates[0]
	if accounts := without.Accounts(without.Resolver()); len(accounts) != 2 {
		t.Errorf("without dns.provider: %v", accounts)
	} else if _, err := accounts.Divide([]dnsprovider.TXT{{Place: resolve.Place{Name: "_acme-challenge.mx.example.org.", Zone: "example.org."}}}); err == nil {
		t.Error("without dns.provider there is an account for every name")
	}
}

// Secrets of zones are kept for a process that may not read them later.
func TestSecretsOfZonesAreKept(t *testing.T) {
	t.Setenv("MXCERT_TEST_SECRET", "c2VjcmV0")
	host := load(t, edited(t, zoned(zonesOfTest)...))
	host.KeepSecrets()
	t.Setenv("MXCERT_TEST_SECRET", "")
	mx := host.Certificates[0]
	account, _ := mx.Accounts(mx.Resolver()).Of(resolve.Place{Name: "mx.example.net."})
	if _, err := account.Solver(); err != nil {
		t.Error(err)
	}
}

// A change of a zone's account is an edit that may have fixed what failed. Where a zone stands in the files does not matter.
func TestFingerprintOfZones(t *testing.T) {
	t.Parallel()
	text := edited(t, zoned(zonesOfTest)...)
	before := load(t, text).Certificates[0].Fingerprint()
	for _, tt := range []struct {
		what, old, replacement string
		change                 bool
	}{
		{"another way to write the zone", "Example.NET.", "example.net", false},
		{"the zone", "Example.NET.", "example.com", true},
		{"the provider", "provider: exec", "provider: certbot-hook", true},
		{"a variable", "EXEC_PATH: /bin/true", "EXEC_PATH: /bin/false", true},
		{"the reference of a secret", "MXCERT_TEST_SECRET", "MXCERT_OTHER_SECRET", true},
	} {
		if got := load(t, strings.Replace(text, tt.old, tt.replacement, 1)).Certificates[0].Fingerprint() != before; got != tt.change {
			t.Errorf("%s: changes the fingerprint: %v", tt.what, got)
		}
	}
}

// Whoever knows more about a secret that cannot be read says it instead of the plain error; one that can be read is not asked about.
func TestExplainSecrets(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	t.Setenv("MXCERT_TEST_SECRET", "c2VjcmV0")
	host := load(t, edited(t, zoned(zonesOfTest)...))
	host.ExplainSecrets(func(secret configs.Secret, err error) error {
		if err == nil {
			t.Error("asked about a secret that can be read")
		}
		return errors.New(string(secret) + " is the service's")
	})
	mx := host.Certificates[0]
	for place, says := range map[string]string{"_acme-challenge.mx.example.org.": "dns.env.DNSUPDATE_TSIG_SECRET: cred:tsig is the service's", "_acme-challenge.mx.example.net.": ""} {
		account, _ := mx.Accounts(mx.Resolver()).Of(resolve.Place{Name: place})
		if _, err := account.Solver(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", place, err, says)
		}
	}
}

package doctor

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"
)

// Each account of dns.zones is tested for the names that need it; what is wrong with one says nothing about the others.
func TestZoneAccounts(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Domains: []string{"mx.example.org", "*.w.example.org", "w.example.org", "mail.example.com", "alias.example.org"}})
	secret := base64.StdEncoding.EncodeToString([]byte("the key of example.com alone"))
	h.check(h.World.AddKey("com.", "hmac-sha256.", secret, "example.com."))
	h.check(h.World.Add("_acme-challenge.alias.example.org. 60 IN CNAME alias.acme.example.com."))
	h.edit("dns:\n", fmt.Sprintf("dns:\n  zones:\n    example.com: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: %q, DNSUPDATE_TSIG_KEY: com., DNSUPDATE_TSIG_SECRET: %q}}\n    example.net: {provider: exec, env: {EXEC_PATH: /nonexistent/program}}\n", h.Primary.Address(), secret))
	look := func() []finding.Finding { return provider(t.Context(), h.want(), h.want().Resolver()) }
	expect := func(what string, want ...string) {
		t.Helper()
		found := look()
		for i, f := range found {
			if i >= len(want) || !strings.HasPrefix(string(f.Severity)+" "+f.Message, want[i]) {
				t.Errorf("%s: %+v, want %q", what, f, want)
			}
		}
		if len(found) != len(want) {
			t.Errorf("%s: %d findings, want %d", what, len(found), len(want))
		}
	}
	const org = "ok rfc2136 accepts the key, and lets it change the records of every name; it proves mx.example.org, w.example.org"
	const com = "ok rfc2136 (dns.zones: example.com) accepts the key, and lets it change the records of every name; it proves mail.example.com, alias.example.org"
	expect("all is well", org, com)
	h.check(h.World.AddKey("com.", "hmac-sha256.", secret, "example.net."))
	expect("a key without the right", org, "error DNS provider rfc2136 (dns.zones: example.com): cannot change TXT records for mail.example.com, alias.example.org in zone example.com: REFUSED")
	h.edit("DNSUPDATE_TSIG_SECRET: \""+secret, "DNSUPDATE_TSIG_SECRET: \"cred:missing")
	expect("a secret that is missing", org, "error dns.zones[example.com].env.DNSUPDATE_TSIG_SECRET: secret cred:missing")
	h.edit("  provider: rfc2136\n", "  provider: exec\n")
	h.edit("    DNSUPDATE_TSIG_KEY: "+fmt.Sprintf("%q", lab.KeyName), "    EXEC_PATH: /bin/true")
	h.edit("example.com: {", "acme.example.com: {")
	expect("another account for the rest", "ok exec is set up; the first order will show whether it can create records; it proves mx.example.org, w.example.org, mail.example.com",
		"error dns.zones[acme.example.com].env")
	h.check(h.Close())
	if found := look(); len(found) != 1 || found[0].Severity != finding.Warning || !strings.Contains(found[0].Message, "were not tested") {
		t.Errorf("without name servers: %+v", found)
	}
}

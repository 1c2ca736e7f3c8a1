package pass

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
)

// TXT records of a certificate that is not configured any more are removed all the same.
func TestOrphanedRecords(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.Add(`_acme-challenge.old.example.org. 60 IN TXT "left"`))
	h.store() // makes the directories
	h.put("state/journal/gone.20260101T000000000Z-01234567.json", `{"version":1,"lineage":"gone","provider":"rfc2136",
		"records":[{"domain":"old.example.org","name":"_acme-challenge.old.example.org.","zone":"example.org.","value":"left"}]}`)
	h.check(h.runner().SweepOrphans(t.Context(), h.say))
	if left := h.World.TXT("_acme-challenge.old.example.org."); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if entries, err := filepath.Glob(h.Path("state", "journal", "*")); err != nil || len(entries) > 0 {
		t.Errorf("the journal has %v (%v)", entries, err)
	}
}

// Each record is removed by the account of its zone, which may be that of another certificate.
func TestOrphanedRecordsOfZones(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	secret := base64.StdEncoding.EncodeToString([]byte("the key of example.com alone"))
	h.check(h.World.AddKey("com.", "hmac-sha256.", secret, "example.com."))
	h.edit("certificates:\n", fmt.Sprintf(`certificates:
  - name: other
    domains: [mail.example.com]
    dns: {zones: {example.com: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: %q, DNSUPDATE_TSIG_KEY: com., DNSUPDATE_TSIG_SECRET: %q}}}}
    deploy: [{files: {certificate: %q, private_key: %q}}]
    verify: {endpoints: []}
`, h.Primary.Address(), secret, h.Path("tls", "other.crt"), h.Path("tls", "other.key")))
	h.check(h.World.Add(`_acme-challenge.old.example.org. 60 IN TXT "left"`, `_acme-challenge.old.example.com. 60 IN TXT "left"`))
	h.store() // makes the directories
	for i, domain := range []string{"example.org", "example.com"} {
		account := map[string]string{"example.com": "example.com"}[domain]
		h.put(fmt.Sprintf("state/journal/gone.20260101T000000000Z-0123456%d.json", i), fmt.Sprintf(`{"version":1,"lineage":"gone","provider":"rfc2136","account":%q,
			"records":[{"domain":"old.%[2]s","name":"_acme-challenge.old.%[2]s.","zone":"%[2]s.","value":"left"}]}`, account, domain))
	}
	h.check(h.runner().SweepOrphans(t.Context(), h.say))
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, u := range h.World.Updates() {
		if want := map[string]string{"example.org.": lab.KeyName, "example.com.": "com."}[u.Zone]; u.Key != want {
			t.Errorf("%s was updated with the key %s, want %s", u.Zone, u.Key, want)
		}
	}
}

// Records that cannot be removed are named, with the certificate that they were made for; those of configured ones are for its
// own pass.
func TestOrphansThatRemain(t *testing.T) {
	t.Parallel()
	const entry = `{"version":1,"lineage":%q,"provider":%q,"records":[{"domain":"old.example.org","name":"_acme-challenge.old.example.org.","zone":"example.org.","value":"left"}]}`
	for _, tt := range []struct {
		what, lineage, provider, text, says string
	}{
		{"another provider", "gone", "other", entry, "TXT record _acme-challenge.old.example.org. of certificate gone"},
		{"the name server does not answer", "gone", "rfc2136", entry, "no configured certificate can use the DNS provider rfc2136"},
		{"a damaged note", "gone", "rfc2136", "{", "gone.20260101T000000000Z-01234567.json"},
		{"a certificate that is configured", "mx", "other", entry, ""},
	} {
		o := newOffline(t)
		o.store() // makes the directories
		text := tt.text
		if text == entry {
			text = fmt.Sprintf(entry, tt.lineage, tt.provider)
		}
		o.put("state/journal/"+tt.lineage+".20260101T000000000Z-01234567.json", text)
		err := o.runner().SweepOrphans(t.Context(), o.say)
		if (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.what, err)
		}
		if _, err := os.Stat(o.Path("state", "journal", tt.lineage+".20260101T000000000Z-01234567.json")); (err == nil) != (tt.text == entry) {
			t.Errorf("%s: the note: %v", tt.what, err)
		}
	}
}

// Somebody who has taken over the service writes an entry, and root runs a command without a daemon: the operator's script does not get it.
func TestForgedRecords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ provider, env string }{
		{"exec", "EXEC_PATH: %q"}, {"exec", "EXEC_MODE: RAW, EXEC_PATH: %q"}, {"certbot-hook", "CERTBOT_AUTH_HOOK: /bin/true, CERTBOT_CLEANUP_HOOK: %q"},
	} {
		for _, lineage := range []string{"gone", "mx"} {
			o := newOffline(t)
			o.hook("dns", `touch "$lab/script-ran"`)
			o.edit(`provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:9"}`, "provider: "+tt.provider+", env: {"+fmt.Sprintf(tt.env, o.Path("hooks", "dns"))+"}")
			o.store() // makes the directories
			entry := "state/journal/" + lineage + ".20260101T000000000Z-01234567.json"
			o.put(entry, fmt.Sprintf(`{"version":1,"lineage":%q,"provider":%q,"records":[{"domain":"../../cron.d/x","name":"$(id).example.org.","zone":"example.org.","value":"v","token":"t","key_auth":"k"}]}`, lineage, tt.provider))
			err := o.runner().SweepOrphans(t.Context(), o.say)
			if lineage == "mx" {
				p := &pass{Runner: o.runner(), want: o.want(), say: o.say, lineage: o.lineage(), have: o.have()}
				p.sweepTXT(t.Context())
				err = errors.New(strings.Join(p.warnings, "\n"))
			}
			if err == nil || !strings.Contains(err.Error(), o.Path(entry)) || !strings.Contains(err.Error(), "remove the file") {
				t.Errorf("%s, %s: %v", tt.provider, lineage, err)
			}
			if _, err := os.Stat(o.Path("script-ran")); err == nil {
				t.Errorf("%s, %s: the script ran", tt.provider, lineage)
			}
		}
	}
}

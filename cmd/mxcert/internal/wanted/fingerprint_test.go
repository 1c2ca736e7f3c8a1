package wanted_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

const good = `acme: {agree_tos: true, directory: "https://ca.example/directory"}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET: "cred:tsig"}}
certificates:
  - name: mx
    domains: [mx.example.org, host7.example.org]
    keys: [ec256, rsa2048]
    deploy:
      - exim: {certificate: "/etc/exim4/{key}.crt", private_key: "/etc/exim4/{key}.key"}
      - exim: {combined: "/etc/exim4/tls/{name}.{key}.{serial}.pem", sni_map: /etc/exim4/sni, reload: auto, unit: other.service}
      - files: {certificate: "/srv/{key}.crt", private_key: "/srv/{key}.key", reload: never, unit: third.service, unchecked: true}
  - name: list
    domains: ["*.lists.example.org"]
    deploy:
      - dovecot: {combined: /etc/dovecot/list.pem}
      - exim: {combined: "/etc/exim4/tls/{name}.{serial}.pem", sni_map: /etc/exim4/sni}
    renewal: {window: "Sat,Sun 01:00-05:00"}
state: /var/lib/mxcert
`

func load(t *testing.T, text string) *wanted.Host {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mxcert.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := configs.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	host, err := wanted.From(config)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// The fingerprint of the host changes with every edit, that of a certificate only with its own settings.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	before := load(t, good)
	for _, tt := range []struct {
		what, old, replacement string
		mx, list               bool // change
	}{
		{"nothing", "state:", "state:", false, false},
		{"a comment", "state:", "# a comment\nstate:", false, false},
		{"its names", "host7.", "host8.", true, false},
		{"the other's window", "05:00", "06:00", false, true},
		{"the CA", "ca.example", "ca2.example", true, true},
		{"the reference of a secret", "cred:tsig", "cred:other", true, true},
		{"the name server", "192.0.2.53", "192.0.2.54", true, true},
	} {
		text := strings.Replace(good, tt.old, tt.replacement, 1)
		after := load(t, text)
		for i, changes := range []bool{tt.mx, tt.list} {
			if got := before.Certificates[i].Fingerprint() != after.Certificates[i].Fingerprint(); got != changes {
				t.Errorf("%s: the fingerprint of %s changes: %v, want %v", tt.what, before.Certificates[i].Name, got, changes)
			}
		}
		if got := before.Fingerprint != after.Fingerprint; got != (text != good) {
			t.Errorf("%s: the fingerprint of the files changes: %v", tt.what, got)
		}
	}
}

package discover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/deploy"
)

// Which certificate belongs to which key in smtpd_tls_chain_files, the files tell; if they cannot be read, their number does.
func TestChainPairs(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, parts ...string) string {
		path, text := filepath.Join(dir, name), ""
		for _, part := range parts {
			text += "-----BEGIN " + part + "-----\nAA==\n-----END " + part + "-----\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, crt, one, two := put("key", "PRIVATE KEY"), put("crt", "CERTIFICATE", "CERTIFICATE"), put("one", "EC PRIVATE KEY", "CERTIFICATE"), put("two", "RSA PRIVATE KEY", "CERTIFICATE")
	pair := deploy.Pair{Certificate: crt, Key: key}
	for files, want := range map[string][]deploy.Pair{
		one:                          {combined(one)},
		key + ", " + crt:             {pair},
		one + " " + two:              {combined(one), combined(two)},
		key + " " + crt + ", " + one: {pair, combined(one)},
		"/no/such.pem":               {combined("/no/such.pem")},
		"/no/such.key, /no/such.crt": {{Certificate: "/no/such.crt", Key: "/no/such.key"}},
	} {
		if got := chainPairs(map[string]string{"smtpd_tls_chain_files": files}); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", files, got, want)
		}
	}
	if got := chainPairs(map[string]string{"smtpd_tls_cert_file": "/a", "smtpd_tls_key_file": "/b"}); !slices.Equal(got, []deploy.Pair{{Certificate: "/a", Key: "/b"}}) {
		t.Errorf("%v", got)
	}
}

// The lines for each server and generation, also by hand.
func TestSettings(t *testing.T) {
	pairs := []deploy.Pair{{Certificate: "/k/mx.crt", Key: "/k/mx.key"}}
	for want, r := range map[string]Reading{
		"smtpd_tls_chain_files = /k/mx.key, /k/mx.crt":                                {Kind: kindPostfix},
		"smtpd_tls_chain_files = /k/mx.key, /k/mx.crt|smtpd_tls_security_level = may": {Kind: kindPostfix, Off: true},
		"ssl_cert = </k/mx.crt|ssl_key = </k/mx.key":                                  {Kind: kindDovecot, generation: dovecot23()},
		"ssl_server_cert_file = /k/mx.crt|ssl_server_key_file = /k/mx.key|ssl = yes":  {Kind: kindDovecot, generation: dovecot24(), Off: true},
	} {
		if got := strings.Join(r.Settings(pairs), "|"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		for _, line := range r.Settings(pairs) {
			if !strings.Contains(r.ByHand(pairs), line) {
				t.Errorf("by hand: %s", r.ByHand(pairs))
			}
		}
	}
}

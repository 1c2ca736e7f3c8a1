package setup

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dnsprovider knows which variables are credentials; their names say little.
func TestSecret(t *testing.T) {
	for _, tt := range []struct {
		provider, variable string
		want               bool
	}{
		{"rfc2136", "DNSUPDATE_TSIG_SECRET", true},
		{"rfc2136", "RFC2136_TSIG_SECRET", true},
		{"dnsupdate", "DNSUPDATE_TSIG_SECRET", true},
		{"rfc2136", "DNSUPDATE_TSIG_KEY", false}, // its name
		{"rfc2136", "RFC2136_TSIG_KEY", false},
		{"rfc2136", "DNSUPDATE_TSIG_ALGORITHM", false},
		{"rfc2136", "DNSUPDATE_TSIG_FILE", false},
		{"rfc2136", "DNSUPDATE_NAMESERVER", false},
		{"rfc2136", "DNSUPDATE_TSIG_SECRET_FILE", false}, // a path, whatever words are in it
		{"cloudflare", "CLOUDFLARE_DNS_API_TOKEN", true},
		{"cloudflare", "CLOUDFLARE_API_KEY_FILE", false},
		{"cloudflare", "CLOUDFLARE_EMAIL", true}, // a credential without one of the words
		{"acme-dns", "ACME_DNS_API_BASE", true},
		{"cloudflare", "CLOUDFLARE_TTL", false},
		{"route53", "AWS_SHARED_CREDENTIALS_FILE", false}, // has the word, and is none
		{"httpreq", "HTTPREQ_PASSWORD", true},             // an option, to lego
		{"cloudflare", "CLOUDFLARE_SOMETHING", true},      // unknown
		{"exec", "EXEC_PATH", false},
		{"exec", "MY_PROGRAM_READS_THIS", true},
		{"no-such-provider", "TTL", true},
	} {
		if got := secret(tt.provider, tt.variable); got != tt.want {
			t.Errorf("%s of %s: secret %v, want %v", tt.variable, tt.provider, got, tt.want)
		}
	}
}

func TestMoveSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tsig")
	if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		value, env, secret string
	}{
		{"word", "cred:dnsupdate_tsig_secret", "word"},
		{"file:" + file, "cred:dnsupdate_tsig_secret", "from the file"},
		{"cred:tsig", "cred:tsig", ""},
		{"env:TSIG", "env:TSIG", ""},
	} {
		a := Answers{Provider: "rfc2136", Env: map[string]string{"DNSUPDATE_TSIG_SECRET": tt.value, "DNSUPDATE_NAMESERVER": "file:/ns"}}
		before := maps.Clone(a.Env)
		env, secrets, err := a.moveSecrets()
		if err != nil || env["DNSUPDATE_TSIG_SECRET"] != tt.env || secrets["dnsupdate_tsig_secret"] != tt.secret || env["DNSUPDATE_NAMESERVER"] != "file:/ns" {
			t.Errorf("%s: %v, %v, %v", tt.value, env, secrets, err)
		}
		if !maps.Equal(a.Env, before) {
			t.Errorf("%s: the answers have changed: %v", tt.value, a.Env)
		}
	}
	a := Answers{Provider: "rfc2136", Env: map[string]string{"DNSUPDATE_TSIG_SECRET": "file:" + file + ".missing"}}
	if _, _, err := a.moveSecrets(); err == nil || !strings.Contains(err.Error(), "--dns-env DNSUPDATE_TSIG_SECRET") {
		t.Errorf("got %v", err)
	}
}

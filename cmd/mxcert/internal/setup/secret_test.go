package setup

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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

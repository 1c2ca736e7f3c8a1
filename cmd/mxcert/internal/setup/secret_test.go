package setup

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMoveSecrets(t *testing.T) {
	credentials := t.TempDir()
	file, there := filepath.Join(t.TempDir(), "tsig"), filepath.Join(credentials, "tsig")
	for _, path := range []string{file, there} {
		if err := os.WriteFile(path, []byte("from the file\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		value, env, secret string
	}{
		{"word", "cred:dnsupdate_tsig_secret", "word"},
		{"file:" + file, "cred:dnsupdate_tsig_secret", "from the file"},
		{"file:" + there, "cred:tsig", ""}, // it is where it belongs
		{"cred:tsig", "cred:tsig", ""},
		{"env:TSIG", "env:TSIG", ""},
	} {
		before := map[string]string{"DNSUPDATE_TSIG_SECRET": tt.value, "DNSUPDATE_NAMESERVER": "file:/ns"}
		a := Answers{Provider: "rfc2136", Env: maps.Clone(before), Credentials: credentials}
		given := a.Env
		secrets, err := a.moveSecrets()
		if err != nil || a.Env["DNSUPDATE_TSIG_SECRET"] != tt.env || secrets["dnsupdate_tsig_secret"] != tt.secret || a.Env["DNSUPDATE_NAMESERVER"] != "file:/ns" {
			t.Errorf("%s: %v, %v, %v", tt.value, a.Env, secrets, err)
		}
		if !maps.Equal(given, before) {
			t.Errorf("%s: the answers have changed: %v", tt.value, given)
		}
	}
	a := Answers{Provider: "rfc2136", Env: map[string]string{"DNSUPDATE_TSIG_SECRET": "file:" + file + ".missing"}}
	if _, err := a.moveSecrets(); err == nil || !strings.Contains(err.Error(), "--dns-env DNSUPDATE_TSIG_SECRET") {
		t.Errorf("got %v", err)
	}
	a = Answers{EABKeyID: "kid", EABKey: "bac"}
	if secrets, err := a.moveSecrets(); err != nil || secrets["eab"] != "bac" || a.EABKey != "cred:eab" {
		t.Errorf("%v, %v, %v", secrets, a, err)
	}
}

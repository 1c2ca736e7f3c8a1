package discover

import (
	"errors"
	"path/filepath"
	"testing"

	"mxcert/deploy"
)

// Which files a first configuration takes over from Exim, and where Debian's macros go.
func TestEximSetup(t *testing.T) {
	for _, tt := range []struct {
		what             string
		certificate, key string
		config           string
		pair             deploy.Pair
		macros           string
	}{
		{"the files of Debian", crt, key, debianGenerated, deploy.Pair{Certificate: crt, Key: key}, debianMacros},
		{"no certificate", "", "", debianGenerated, deploy.Pair{}, debianMacros},
		{"one file with both", pem, "", debianGenerated, combined(pem), debianMacros},
		{"a file that may be missing", "${if exists{" + crt + "}{" + crt + "}{}}", "${if exists{" + key + "}{" + key + "}}", debianGenerated, deploy.Pair{Certificate: crt, Key: key}, debianMacros},
		{"a key that is looked up", crt, "${lookup{x}lsearch{/y}}", debianGenerated, deploy.Pair{}, debianMacros},
		{"two types of key", "/a.crt : /b.crt", "/a.key : /b.key", debianGenerated, deploy.Pair{}, debianMacros},
		{"two keys for one certificate", crt, "/a.key : /b.key", debianGenerated, deploy.Pair{}, debianMacros},
		{"by the name", "/etc/exim4/${tls_in_sni}.crt", key, debianGenerated, deploy.Pair{}, debianMacros},
		{"a relative path", "exim.crt", key, debianGenerated, deploy.Pair{}, debianMacros},
		{"not Debian's", crt, key, "/etc/exim/exim.conf", deploy.Pair{Certificate: crt, Key: key}, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			fakeExim(t, tt.certificate, tt.key, "", tt.config)
			s, err := Exim(t.Context())
			if err != nil || s.Pair != tt.pair || s.Macros != tt.macros || s.Setting != tt.certificate || s.User != "Debian-exim" || filepath.Base(s.Program) != "exim4" {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
}

func TestEximSetupFails(t *testing.T) {
	program(t, "exim4", "echo 'Exim configuration error' >&2; exit 1")
	if _, err := Exim(t.Context()); err == nil || errors.Is(err, ErrAbsent) {
		t.Errorf("got %v", err)
	}
}

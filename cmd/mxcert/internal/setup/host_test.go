package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/deploy"
)

// names answers from two tables.
type names struct{ mx, addresses map[string][]string }

func (n names) MX(_ context.Context, domain string) ([]string, error) {
	return lookUp(n.mx, domain)
}

func (n names) Addresses(_ context.Context, host string) ([]string, error) {
	return lookUp(n.addresses, host)
}

func lookUp(table map[string][]string, name string) ([]string, error) {
	if list, ok := table[name]; ok {
		return list, nil
	}
	return nil, errors.New("no answer")
}

// MX names with an address of this host come first; those of others, and those that cannot be asked, are left out.
func TestMXNames(t *testing.T) {
	dns := names{
		mx: map[string][]string{"mail.example.org": {"mail.example.org"}, "example.org": {"mx.example.org", "backup.example.net", "gone.example.org"}},
		addresses: map[string][]string{
			"mail.example.org": {"192.0.2.1"}, "mx.example.org": {"2001:db8::1", "192.0.2.1"}, "backup.example.net": {"198.51.100.1"},
		},
	}
	h := Host{Names: []string{"mail.example.org"}}
	h.mxNames(t.Context(), "mail.example.org", dns, []string{"127.0.0.1", "192.0.2.1"})
	if want := []string{"mx.example.org", "mail.example.org"}; !slices.Equal(h.Names, want) {
		t.Errorf("names %q, want %q", h.Names, want)
	}
	if len(h.Notes) != 2 || !strings.Contains(h.Notes[1], "MX of example.org: mx.example.org") {
		t.Errorf("notes %q", h.Notes)
	}
}

// fake puts a program into PATH, before all others.
func fake(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestLook(t *testing.T) {
	fake(t, "hostname", "echo MX.Example.Org")
	fake(t, "exim4", `case "$*" in *config_file*) echo /etc/exim/exim.conf;; *) printf 'tls_certificate = /a.crt\ntls_privatekey = /a.key\n';; esac`)
	h := Look(t.Context(), []string{"127.0.0.1:9"}) // where no name server is
	if !slices.Equal(h.Names, []string{"mx.example.org"}) || h.MailServer != exim || h.Exim.Pair != (deploy.Pair{Certificate: "/a.crt", Key: "/a.key"}) {
		t.Errorf("got %+v", h)
	}
	if len(h.Notes) != 2 || h.Notes[0] != "host name mx.example.org" {
		t.Errorf("notes %q", h.Notes)
	}
}

// A host without a full name is asked for one.
func TestLookWithoutName(t *testing.T) {
	fake(t, "hostname", "exit 1")
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := hostName(t.Context()); got != strings.ToLower(name) {
		t.Errorf("got %q, want the short name %q", got, name)
	}
}

func TestAskExim(t *testing.T) {
	for answer, want := range map[string]string{
		"tls_certificate = /a.crt\ntls_privatekey = /a.key": "which reads /a.crt and /a.key",
		"tls_certificate = /a.pem\ntls_privatekey =":        "certificate and key from /a.pem",
		"tls_certificate =\ntls_privatekey =":               "no certificate of yours yet",
		"tls_certificate = ${x}\ntls_privatekey =":          "which reads ${x}: not one plain path",
		"Exim configuration error":                          "does not say what it reads",
	} {
		fake(t, "exim4", "cat <<'END'\n"+answer+"\nEND\n")
		h := Host{}
		h.askExim(t.Context())
		if h.MailServer != exim || len(h.Notes) != 1 || !strings.Contains(h.Notes[0], want) {
			t.Errorf("%q: %+v", answer, h)
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	if list := ownAddresses(); !slices.Contains(list, "127.0.0.1") {
		t.Errorf("got %q", list)
	}
}

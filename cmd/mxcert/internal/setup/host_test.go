package setup

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// MX names with an address of this host come first; those of others, and those that cannot be asked, are left out.
func TestMXNames(t *testing.T) {
	world := nameserver.New()
	if err := world.AddZone("example.org.", "@ NS ns1.example.org.", "ns1 A 127.0.0.1", "mail MX 10 mail", "mail A 192.0.2.1", "@ MX 10 mx", "@ MX 20 backup", "@ MX 30 gone",
		"mx A 192.0.2.1", "mx AAAA 2001:db8::1", "backup A 198.51.100.1"); err != nil {
		t.Fatal(err)
	}
	server, err := world.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	h := Host{Names: []string{"mail.example.org"}}
	h.mxNames(t.Context(), "mail.example.org", resolve.New([]string{server.Address()}), []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	if want := []string{"mx.example.org", "mail.example.org"}; !slices.Equal(h.Names, want) {
		t.Errorf("names %q, want %q", h.Names, want)
	}
	if want := []string{"mail.example.org", "example.org"}; !slices.Equal(h.MailDomains, want) {
		t.Errorf("mail domains %q, want %q", h.MailDomains, want)
	}
	if len(h.Notes) != 2 || !strings.Contains(h.Notes[1], "MX of example.org: mx.example.org") {
		t.Errorf("notes %q", h.Notes)
	}
}

// The mail domains that were found are proposed, and the configuration has those that were chosen.
func TestMailDomainsAreProposed(t *testing.T) {
	for _, tt := range []struct {
		found, flags []string
		answer       string // of a person; "-": nobody is asked
		want         string
	}{
		{[]string{"example.org"}, nil, "-", "    mail_domains: [example.org]\n"},
		{[]string{"example.org"}, []string{"none"}, "-", ""},
		{[]string{"example.org"}, []string{"example.com"}, "-", "    mail_domains: [example.com]\n"},
		{[]string{"example.org"}, nil, "", "    mail_domains: [example.org]\n"},
		{[]string{"example.org"}, nil, "none", ""},
		{[]string{"example.org"}, nil, "example.net example.com", "    mail_domains: [example.net, example.com]\n"},
		{nil, nil, "", ""},
	} {
		a, host := given(), eximHost(onePair("/a.crt", "/a.key"))
		host.MailDomains, a.MailDomains = tt.found, tt.flags
		var person *Person
		if tt.answer != "-" {
			s := &script{t: t, answers: map[string][]string{"mail domains": {tt.answer}}}
			person = s.person()
		}
		c := &completion{Answers: &a, host: host, person: person}
		if c.mailDomains(); c.stopped != nil {
			t.Errorf("%+v: %v", tt, c.stopped)
		} else if text := a.text(); tt.want != "" && !strings.Contains(text, tt.want) || tt.want == "" && strings.Contains(text, "mail_domains") {
			t.Errorf("%+v:\n%s", tt, text)
		}
	}
	a := given()
	a.MailDomains = []string{"postmaster@example.org"}
	if err := a.Complete(t.Context(), eximHost(nil), nil); err == nil || !strings.Contains(err.Error(), "--mail-domain: ") || !strings.Contains(err.Error(), "this is a mail address") {
		t.Errorf("%v", err)
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
	if !slices.Equal(h.Names, []string{"mx.example.org"}) || !slices.Equal(h.server(exim).Pairs, onePair("/a.crt", "/a.key")) {
		t.Errorf("got %+v", h)
	}
	if len(h.Notes) < 2 || h.Notes[0] != "host name mx.example.org" {
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

// What Exim reads is said in words, for each way in which it may be configured.
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
		h.askServers(t.Context(), nil)
		if len(h.Servers) == 0 || h.Servers[0].Kind != exim || len(h.Notes) == 0 || !strings.Contains(strings.Join(h.Notes, "\n"), want) {
			t.Errorf("%q: %+v", answer, h)
		}
	}
}

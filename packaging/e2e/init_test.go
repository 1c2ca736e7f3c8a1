package e2e

import (
	"strings"
	"testing"

	"mxcert/packaging/e2e/mailhost"
)

// initArguments are what init cannot find out in this world.
func (s *story) initArguments(more ...string) []string {
	s.check(s.Put("/root/tsig", []byte(s.TSIGSecret+"\n"), 0o600))
	return append([]string{"init", "--yes", "--agree-tos", "--email", "postmaster@example.org", "--directory", "https://127.0.0.1:14000/dir", "--ca-file", "/etc/pebble/ca.pem",
		"--dns-provider", "rfc2136", "--dns-env", "DNSUPDATE_NAMESERVER=127.0.0.1:53", "--dns-env", "DNSUPDATE_TSIG_KEY=mxcert.",
		"--dns-env", "DNSUPDATE_TSIG_SECRET=file:/root/tsig", "--resolver", "127.0.0.1:53"}, more...)
}

// On a host whose Exim has TLS already, three commands are all: the paths and names are found.
func TestInit(t *testing.T) {
	s := begin(t, options{bare: true})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	r := s.mxcert(s.initArguments()...)
	if r.Code != 0 {
		t.Fatalf("init: exit code %d", r.Code)
	}
	config := must(t, s.Host, "cat", "/etc/mxcert/mxcert.yaml")
	for _, part := range []string{"mx.example.org", "certificate: /etc/exim4/exim.crt", "unit: exim4.service", "cred:dnsupdate_tsig_secret"} {
		if !strings.Contains(config, part) {
			t.Errorf("the configuration lacks %s:\n%s", part, config)
		}
	}
	if strings.Contains(config, s.TSIGSecret) {
		t.Error("the secret is in the configuration")
	}
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Fatalf("renew --now: exit code %d", r.Code)
	}
	s.servedByAuthority()
	must(t, s.Host, "systemctl", "enable", "--now", "mxcert")
	if r := s.mxcert("renew"); r.Code != 0 || strings.Contains(r.Stdout, `"changed": true`) {
		t.Errorf("the service finds something to do: %s", r.Stdout)
	}
	if out := must(t, s.Host, "find", "/var/lib/mxcert", "!", "-user", "mxcert"); strings.TrimSpace(out) != "" {
		t.Errorf("not of the service's user: %s", out)
	}
}

// On a fresh Debian host, whose Exim offers no certificate of its own, init makes it read one from the service's directory.
func TestInitFreshExim(t *testing.T) {
	s := begin(t, options{bare: true})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-c", "sed -i '/MAIN_TLS/d' /etc/exim4/exim4.conf.localmacros; gpasswd -d Debian-exim mxcert-keys; update-exim4.conf; systemctl restart exim4")
	r := s.mxcert(s.initArguments()...)
	if r.Code != 0 || !strings.Contains(r.Stdout, "+MAIN_TLS_ENABLE = yes") || !strings.Contains(r.Stdout, "not applied") {
		t.Fatalf("init: exit code %d", r.Code)
	}
	if out := must(t, s.Host, "cat", "/etc/exim4/exim4.conf.localmacros"); strings.Contains(out, "MAIN_TLS") {
		t.Error("macros were added without being asked for")
	}
	if r := s.mxcert(s.initArguments("--force", "--exim-macros")...); r.Code != 0 {
		t.Fatalf("init --exim-macros: exit code %d", r.Code)
	}
	for _, address := range []string{"127.0.0.1:25", "[::1]:25"} {
		s.check(s.AwaitPort(t.Context(), address))
	}
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Fatalf("renew --now: exit code %d", r.Code)
	}
	s.servedByAuthority()
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%G %a", "/var/lib/mxcert-keys/mx.key")); got != "mxcert-keys 640" {
		t.Errorf("the key is %s", got)
	}
}

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	t.Parallel()
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

// On a fresh Debian host, whose Exim offers no certificate of its own, init makes it read one from the service's directory. A reload
// is enough for the macros and for the new group: Exim's daemon stays the same process.
func TestInitFreshExim(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-c", "sed -i '/MAIN_TLS/d' /etc/exim4/exim4.conf.localmacros; gpasswd -d Debian-exim mxcert-keys; update-exim4.conf; systemctl restart exim4")
	r := s.mxcert(s.initArguments()...)
	if r.Code != 0 || !strings.Contains(r.Stdout, "+MAIN_TLS_ENABLE = yes") || !strings.Contains(r.Stdout, "Exim reads other files. by hand: ") || !strings.Contains(r.Stdout, "update-exim4.conf && systemctl reload exim4\n") {
		t.Fatalf("init: exit code %d", r.Code)
	}
	if out := must(t, s.Host, "cat", "/etc/exim4/exim4.conf.localmacros"); strings.Contains(out, "MAIN_TLS") {
		t.Error("macros were added without being asked for")
	}
	before := s.daemon()
	load := s.StartLoad(t.Context(), 2, 20*time.Millisecond, "127.0.0.1:25")
	if r := s.mxcert(s.initArguments("--force", "--exim-macros")...); r.Code != 0 || !strings.Contains(r.Stdout, "done: reloaded exim4.service: Exim reads") || strings.Contains(r.Stdout, "connection refused") {
		t.Fatalf("init --exim-macros: exit code %d", r.Code)
	}
	for _, address := range []string{"127.0.0.1:25", "[::1]:25"} {
		s.check(s.AwaitPort(t.Context(), address))
	}
	if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
		t.Errorf("senders had no certificate: %v", counts)
	}
	s.onlyReloaded(before)
	keys := strings.Split(must(t, s.Host, "getent", "group", "mxcert-keys"), ":")[2]
	if groups := must(t, s.Host, "grep", "^Groups:", fmt.Sprintf("/proc/%d/status", before.pid)); !slices.Contains(strings.Fields(groups), keys) {
		t.Errorf("Exim's daemon has the groups %s without mxcert-keys, %s", groups, keys)
	}
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Fatalf("renew --now: exit code %d", r.Code)
	}
	s.servedByAuthority()
	s.onlyReloaded(before)
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%G %a", "/var/lib/mxcert-keys/mx.key")); got != "mxcert-keys 640" {
		t.Errorf("the key is %s", got)
	}
}

// What init says if it may not change Exim, done by hand as it is written.
func TestInitByHand(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-c", "sed -i '/MAIN_TLS/d' /etc/exim4/exim4.conf.localmacros; gpasswd -d Debian-exim mxcert-keys; update-exim4.conf; systemctl restart exim4")
	r := s.mxcert(s.initArguments()...)
	m := regexp.MustCompile("first run `([^`]*)`, which writes the files; then change the file like this, then: (.*)\n").FindStringSubmatch(r.Stdout)
	if r.Code != 0 || m == nil {
		t.Fatalf("init: exit code %d\n%s", r.Code, r.Stdout)
	}
	load := s.StartLoad(t.Context(), 2, 20*time.Millisecond, "127.0.0.1:25")
	if first, err := s.Run(t.Context(), "sh", "-c", m[1]); err != nil || first.Code != 5 || !strings.Contains(first.Stdout+first.Stderr, "MAIN_TLS_CERTIFICATE = /var/lib/mxcert-keys/mx.crt") {
		t.Errorf("%s: %+v, %v", m[1], first, err)
	}
	for _, line := range regexp.MustCompile(`(?m)^\+([^+].*)$`).FindAllStringSubmatch(r.Stdout, -1) {
		must(t, s.Host, "sh", "-c", "echo '"+line[1]+"' >>/etc/exim4/exim4.conf.localmacros")
	}
	must(t, s.Host, "sh", "-c", m[2])
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	if r := s.mxcert("renew"); r.Code != 0 {
		t.Errorf("renew: exit code %d", r.Code)
	}
	s.servedByAuthority()
	if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
		t.Errorf("senders had no certificate: %v", counts)
	}
}

// Macros that lead to another certificate are replaced in an unsplit configuration, and overridden in a split one, where they are in a
// file of the administrator. Exim refuses a macro that is defined twice.
func TestInitDefinedMacros(t *testing.T) {
	t.Parallel()
	const other = "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTIFICATE = /etc/exim4/other.crt\nMAIN_TLS_PRIVATEKEY = /etc/exim4/other.key\n"
	s := begin(t, options{bare: true})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-c", "cd /etc/exim4; cp -a exim.crt other.crt; cp -a exim.key other.key")
	paths := []string{"--force", "--exim-macros", "--certificate", "/etc/exim4/exim.crt", "--private-key", "/etc/exim4/exim.key"}
	for _, tt := range []struct{ what, prepare, file string }{
		{"one file", `cd /etc/exim4; sed -i '/MAIN_TLS/d' exim4.conf.localmacros; printf '` + other + `' >>exim4.conf.localmacros`, "/etc/exim4/exim4.conf.localmacros"},
		{"split", `cd /etc/exim4; sed -i 's/split_config=.*/split_config='"'true'"'/' update-exim4.conf.conf; grep -v MAIN_TLS exim4.conf.localmacros >conf.d/main/000_localmacros; printf '` + other + `' >>conf.d/main/000_localmacros`,
			"/etc/exim4/conf.d/main/000_mxcert_macros"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := s.in(t)
			must(t, s.Host, "sh", "-c", tt.prepare+"; update-exim4.conf && systemctl reload exim4")
			if out := must(t, s.Host, "exim4", "-bP", "tls_certificate"); !strings.Contains(out, "/etc/exim4/other.crt") {
				t.Fatalf("Exim reads %s", out)
			}
			before := s.daemon()
			if r := s.mxcert(s.initArguments(paths...)...); r.Code != 0 || !strings.Contains(r.Stdout, "+++ "+tt.file) {
				t.Fatalf("init --exim-macros: exit code %d", r.Code)
			}
			if out := must(t, s.Host, "exim4", "-bP", "tls_certificate", "tls_privatekey"); !strings.Contains(out, "/etc/exim4/exim.crt") || !strings.Contains(out, "/etc/exim4/exim.key") {
				t.Errorf("Exim reads %s", out)
			}
			s.onlyReloaded(before)
			if r := s.mxcert("renew", "--now"); r.Code != 0 {
				t.Fatalf("renew --now: exit code %d", r.Code)
			}
			s.servedByAuthority()
		})
	}
}

// daemon is Exim's daemon and how often it was reloaded.
type daemon struct{ pid, reloads int }

func (s *story) daemon() daemon {
	s.t.Helper()
	pid, err := s.EximPID()
	s.check(err)
	reloads, err := s.ReloadCount(s.t.Context(), "exim4.service")
	s.check(err)
	return daemon{pid, reloads}
}

// onlyReloaded checks that Exim was reloaded, and not restarted.
func (s *story) onlyReloaded(before daemon) {
	s.t.Helper()
	if now := s.daemon(); now.pid != before.pid || now.reloads <= before.reloads {
		s.t.Errorf("Exim was process %d with %d reloads, and is %d with %d", before.pid, before.reloads, now.pid, now.reloads)
	}
}

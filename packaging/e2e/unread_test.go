package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// A server that has TLS and does not read the paths of the configuration: mxcert writes the files first, the hint says what to change, and
// what it says is done as it is written. Senders have a certificate all the while.
func TestFilesBeforeTheHint(t *testing.T) {
	for _, tt := range []struct {
		server  mailhost.Server
		kind    string
		target  string
		service bool
	}{
		{mailhost.Exim, "exim", `{certificate: /etc/exim4/new.crt, private_key: /etc/exim4/new.key, group: Debian-exim`, false},
		{mailhost.Exim, "exim", `{certificate: /etc/exim4/new.crt, private_key: /etc/exim4/new.key, group: Debian-exim`, true},
		{mailhost.Postfix, "postfix", `{combined: "/etc/postfix/tls/{name}.{key}.pem"`, false},
		{mailhost.Postfix, "postfix", `{certificate: /etc/postfix/tls/new.crt, private_key: /etc/postfix/tls/new.key`, true},
	} {
		t.Run(fmt.Sprint(tt.kind, " ", tt.target[1:8], " ", tt.service), func(t *testing.T) {
			t.Parallel()
			s := begin(t, options{server: tt.server, service: tt.service, config: serversConfig(fmt.Sprintf("      - %s: %s}\n", tt.kind, tt.target), tt.kind)})
			if tt.kind == "exim" { // as after certbot: the macros are defined
				must(t, s.Host, "sh", "-c", `cd /etc/exim4; sed -i '/MAIN_TLS_[CP]/d' exim4.conf.localmacros; cp -p exim.crt old.crt; cp -p exim.key old.key
					printf 'MAIN_TLS_CERTIFICATE = /etc/exim4/old.crt\nMAIN_TLS_PRIVATEKEY = /etc/exim4/old.key\n' >>exim4.conf.localmacros; update-exim4.conf && systemctl reload exim4`)
				s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
			}
			load := s.StartLoad(t.Context(), 2, 20*time.Millisecond, "127.0.0.1:25")
			c := s.report(5, "renew").Certificates[0]
			if c.Error == nil || c.Error.Kind != "not-read" || c.Stage != "deployed" || !strings.Contains(c.Error.Message, "mxcert has written") {
				t.Fatalf("%+v, %+v", c, c.Error)
			}
			hint, _, _ := strings.Cut(c.Error.Hint, "; or write")
			for _, m := range regexp.MustCompile("replace `([^`]*)` by `([^`]*)`").FindAllStringSubmatch(hint, -1) {
				must(t, s.Host, "sed", "-i", "s|^"+m[1]+"$|"+m[2]+"|", "/etc/exim4/exim4.conf.localmacros")
			}
			if tt.kind == "exim" {
				_, hint, _ = strings.Cut(hint, "; then: ")
			}
			must(t, s.Host, "sh", "-c", strings.TrimPrefix(hint, "make it read them: "))
			again := s.report(0, "renew").Certificates[0]
			s.everywhere(again.Keys[0].Serial, tt.kind)
			if again.Keys[0].Serial != c.Keys[0].Serial {
				t.Errorf("another order: %+v, then %+v", c.Keys, again.Keys)
			}
			if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
				t.Errorf("senders had no certificate: %v", counts)
			}
		})
	}
}

// Exim chooses the certificate by the name, if a file of that name exists: the first deployment makes the file, and senders get it.
func TestEximFileByName(t *testing.T) {
	t.Parallel()
	const choice = "${if exists{/etc/exim4/ssl/${tls_in_sni}.%[1]s}{/etc/exim4/ssl/$tls_in_sni.%[1]s}{/etc/exim4/exim.%[1]s}}"
	s := begin(t, options{service: true, config: serversConfig("      - exim: {certificate: /etc/exim4/ssl/mx.example.org.crt, private_key: /etc/exim4/ssl/mx.example.org.key, group: Debian-exim}\n", "exim")})
	s.check(s.Put("/root/macros", fmt.Appendf(nil, "MAIN_TLS_CERTIFICATE = "+choice+"\nMAIN_TLS_PRIVATEKEY = "+strings.ReplaceAll(choice, "%[1]s", "%[2]s")+"\n", "crt", "key"), 0o600))
	must(t, s.Host, "sh", "-ec", "install -d -m 750 -g Debian-exim /etc/exim4/ssl; cat /root/macros >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf; systemctl reload exim4")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	c := s.report(0, "renew").Certificates[0]
	s.everywhere(c.Keys[0].Serial, "exim")
	if r := s.mxcert("renew", "--dry-run"); r.Code != 0 || strings.Contains(unfolded(r.Stdout+r.Stderr), "does not read") || strings.Contains(unfolded(r.Stdout+r.Stderr), "cannot be told") {
		t.Errorf("a dry run: exit code %d", r.Code)
	}
}

// Dovecot reads other files, and Postfix reads what mxcert writes: senders get the certificate, and the report says who does not, as long as
// that is so. It orders no other certificate meanwhile, and does not reload Postfix again.
func TestOneServerReadsOtherFiles(t *testing.T) {
	for _, tt := range []struct {
		what, before string
		service      bool
	}{
		{"files that are there", "cd /etc/dovecot/tls; cp mx.crt other.crt; cp mx.key other.key; chmod 600 other.key", false},
		{"files that are not there", "true", true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			s := begin(t, options{server: mailhost.Postfix, service: tt.service, config: serversConfig(findLayout(t, "postfix", "pair").line("always")+
				"      - dovecot: {certificate: /etc/dovecot/tls/other.crt, private_key: /etc/dovecot/tls/other.key}\n", "postfix", "dovecot")})
			must(t, s.Host, "sh", "-ec", tt.before)
			c := s.report(5, "renew").Certificates[0]
			if c.Error == nil || c.Error.Kind != "not-read" || !strings.Contains(c.Error.Message, "Dovecot does not read /etc/dovecot/tls/other.crt") ||
				!strings.Contains(c.Error.Message, "the certificate is in service at the other targets (postfix)") || !strings.Contains(c.Error.Hint, "/etc/dovecot/tls/other.crt") {
				t.Fatalf("%+v", c.Error)
			}
			s.everywhere(c.Keys[0].Serial, "postfix")
			if matching := fmt.Sprint(c.Endpoints); strings.Count(matching, "true") != len(endpoints("postfix")) || strings.Count(matching, "false") != len(endpoints("dovecot")) {
				t.Errorf("endpoints: %s", matching)
			}
			reloads := must(t, s.Host, "sh", "-c", "journalctl -t postfix/master -g reload | wc -l")
			again := s.report(5, "renew").Certificates[0]
			if again.Error.Kind != "not-read" || again.Changed || again.Keys[0].Serial != c.Keys[0].Serial {
				t.Errorf("again: %+v, %+v", again, again.Error)
			}
			if now := must(t, s.Host, "sh", "-c", "journalctl -t postfix/master -g reload | wc -l"); now != reloads {
				t.Errorf("%s reloads of Postfix, then %s", reloads, now)
			}
			if r := s.mxcert("renew", "--dry-run"); r.Code != 5 || !strings.Contains(r.Stdout, "mx: deployed") || !strings.Contains(r.Stderr, "Dovecot does not read") {
				t.Errorf("a dry run: exit code %d", r.Code)
			}
			must(t, s.Host, "sh", "-ec", "sed -i 's|/tls/mx[.]|/tls/other.|' /etc/dovecot/local.conf; doveconf -n >/dev/null; systemctl reload dovecot")
			last := s.report(0, "renew").Certificates[0]
			if last.Keys[0].Serial != c.Keys[0].Serial {
				t.Errorf("another order: %+v, then %+v", c.Keys, last.Keys)
			}
			s.everywhere(c.Keys[0].Serial, "postfix", "dovecot")
		})
	}
}

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

// situation is a host with servers that are configured in some way.
type situation struct {
	what    string
	server  mailhost.Server
	servers []string
	script  string // configures them
	flags   []string
	config  []string // what the configuration says

}

// Debian's own certificate of the package ssl-cert, which belongs to other programs as well.
const (
	snakeoilCertificate = "/etc/ssl/certs/ssl-cert-snakeoil.pem"
	snakeoilKey         = "/etc/ssl/private/ssl-cert-snakeoil.key"
)

// selfSigned makes the certificate of ssl-cert, in case that the package is not on the host.
const selfSigned = `mkdir -p /etc/ssl/private; test -e ` + snakeoilKey + ` || openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=mx.example.org -keyout ` + snakeoilKey + ` -out ` + snakeoilCertificate + ` 2>/dev/null; `

// dovecotReads makes Dovecot read two files.
func dovecotReads(certificate, key string) string {
	lines := `ssl_cert = <%s\nssl_key = <%s\n`
	if mailhost.DefaultRelease() != mailhost.Debian12 {
		lines = `ssl_server_cert_file = %s\nssl_server_key_file = %s\n`
	}
	return fmt.Sprintf(`sed -i '/^ssl_/d' /etc/dovecot/local.conf; printf '`+lines+`' >>/etc/dovecot/conf.d/10-ssl.conf; `, certificate, key)
}

func situations() []situation {
	const (
		postfixReads = `postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_cert_file=%s smtpd_tls_key_file=%s; `
		panel        = `mkdir -p /etc/ssl/mail; cp /etc/postfix/tls/mx.crt /etc/postfix/tls/mx.key /etc/ssl/mail/; `
		restart      = `systemctl restart postfix dovecot`
		off          = `systemctl disable --now dovecot.service dovecot.socket; `
	)
	snakeoil := selfSigned + fmt.Sprintf(postfixReads, snakeoilCertificate, snakeoilKey)
	return []situation{
		{"Exim", mailhost.Exim, []string{"exim"}, `true`, nil, []string{"certificate: /etc/exim4/exim.crt", "group: Debian-exim"}},
		{"Exim, certbot", mailhost.Exim, []string{"exim"}, `mkdir -p /etc/letsencrypt/live/mx; cd /etc/letsencrypt/live/mx; cp /etc/exim4/exim.crt fullchain.pem; cp /etc/exim4/exim.key privkey.pem; chown -R Debian-exim /etc/letsencrypt; cd /etc/exim4; ` +
			`sed -i '/MAIN_TLS_[CP]/d' exim4.conf.localmacros; printf 'MAIN_TLS_CERTIFICATE = /etc/letsencrypt/live/mx/fullchain.pem\nMAIN_TLS_PRIVATEKEY = /etc/letsencrypt/live/mx/privkey.pem\n' >>exim4.conf.localmacros; update-exim4.conf; systemctl reload exim4; sleep 1`,
			[]string{"--configure"}, []string{"certificate: /var/lib/mxcert-keys/mx.crt"}},
		{"Postfix, snakeoil", mailhost.Postfix, []string{"postfix"}, snakeoil + off + restart[:len("systemctl restart postfix")], []string{"--configure"}, []string{"combined: /var/lib/mxcert-keys/mx.pem"}},
		{"Postfix and Dovecot, snakeoil", mailhost.Postfix, []string{"postfix", "dovecot"}, snakeoil + dovecotReads(snakeoilCertificate, snakeoilKey) + restart, []string{"--configure"},
			[]string{"combined: /var/lib/mxcert-keys/mx.pem", "private_key: /var/lib/mxcert-keys/mx.key", `"127.0.0.1:993"`}},
		{"Postfix and Dovecot, a panel", mailhost.Postfix, []string{"postfix", "dovecot"}, panel + fmt.Sprintf(postfixReads, "/etc/ssl/mail/mx.crt", "/etc/ssl/mail/mx.key") + dovecotReads("/etc/ssl/mail/mx.crt", "/etc/ssl/mail/mx.key") + restart, nil,
			[]string{"- postfix:", "- dovecot:", "certificate: /etc/ssl/mail/mx.crt"}},
		{"Postfix and Dovecot, paths of their own", mailhost.Postfix, []string{"postfix", "dovecot"}, `cp /etc/postfix/tls/mx.* /etc/dovecot/tls/; ` + restart, nil,
			[]string{"certificate: /etc/postfix/tls/mx.crt", "certificate: /etc/dovecot/tls/mx.crt", `"[::1]:465"`}},
	}
}

// init --yes finds the servers, and after the one next command that it prints, every port with TLS shows the new certificate. No sender is
// without one while init works.
func TestInitServers(t *testing.T) {
	t.Parallel()
	for _, tt := range situations() {
		t.Run(tt.what, func(t *testing.T) {
			s := begin(t, options{bare: true, server: tt.server})
			s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
			must(t, s.Host, "sh", "-ec", tt.script)
			var addresses []string
			for _, server := range tt.servers {
				addresses = append(addresses, endpoints(server)...)
			}
			for _, address := range addresses {
				s.check(s.AwaitPort(t.Context(), address))
			}
			load := s.StartLoad(t.Context(), 2, 20*time.Millisecond, addresses...)
			r := s.mxcert(s.initArguments(append([]string{"--dns-test"}, tt.flags...)...)...)
			if r.Code != 0 || strings.Count(r.Stdout, "next: ") != 1 || !strings.HasSuffix(r.Stdout, "next: mxcert renew\n") || strings.Contains(r.Stdout, "connection refused") || strings.Contains(r.Stdout, "\nerror: ") || strings.Contains(r.Stdout, "\nwarning: ") {
				t.Fatalf("init: exit code %d", r.Code)
			}
			config := must(t, s.Host, "cat", "/etc/mxcert/mxcert.yaml")
			for _, part := range append(tt.config, addresses...) {
				if !strings.Contains(config, part) && (slices.Contains(tt.config, part) || tt.server == mailhost.Postfix) {
					t.Errorf("the configuration lacks %s:\n%s", part, config)
				}
			}
			for _, path := range []string{"/etc/mxcert/mxcert.yaml", "/etc/mxcert/credentials/dnsupdate_tsig_secret", "/etc/polkit-1/rules.d/50-mxcert.rules"} {
				if !strings.Contains(r.Stdout, "written: "+path+"\n") {
					t.Errorf("%s is not listed", path)
				}
			}
			if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 { // what a renewal of two files costs is in loadtable_test.go
				t.Errorf("senders had no certificate: %v", counts)
			}
			s.noTXT()
			next := strings.Fields(regexp.MustCompile("(?m)^next: (.*)$").FindStringSubmatch(r.Stdout)[1])
			if renewed := s.mxcert(next[1:]...); renewed.Code != 0 {
				t.Fatalf("%v: exit code %d", next, renewed.Code)
			}
			status := s.report(0, "status").Certificates[0]
			s.everywhere(status.Keys[0].Serial, tt.servers...)
		})
	}
}

// Without consent nothing of the servers changes: init shows the lines, renew writes the files and says what to change, and what is printed
// works as it is written.
func TestInitServersByHand(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true, server: mailhost.Postfix})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-ec", selfSigned+`postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_cert_file=`+snakeoilCertificate+` smtpd_tls_key_file=`+snakeoilKey+`; systemctl disable --now dovecot.service dovecot.socket; systemctl restart postfix`)
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	before := must(t, s.Host, "cat", "/etc/postfix/main.cf")
	r := s.mxcert(s.initArguments()...)
	m := regexp.MustCompile("first run `mxcert renew`, which writes the files; then (postconf .*)\n").FindStringSubmatch(r.Stdout)
	if r.Code != 0 || m == nil || must(t, s.Host, "cat", "/etc/postfix/main.cf") != before {
		t.Fatalf("init: exit code %d", r.Code)
	}
	load := s.StartLoad(t.Context(), 2, 20*time.Millisecond, endpoints("postfix")...)
	if renewed := s.mxcert("renew"); renewed.Code != 5 {
		t.Errorf("renew: exit code %d", renewed.Code)
	}
	must(t, s.Host, "sh", "-ec", m[1])
	if renewed := s.mxcert("renew"); renewed.Code != 0 {
		t.Errorf("renew: exit code %d", renewed.Code)
	}
	s.everywhere(s.report(0, "status").Certificates[0].Keys[0].Serial, "postfix")
	if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
		t.Errorf("senders had no certificate: %v", counts)
	}
}

// A change that another part of the server's configuration would undo is not made: init says which lines to change, and nothing of the
// server has changed.
func TestInitServersRefused(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true, server: mailhost.Postfix})
	s.check(s.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	must(t, s.Host, "sh", "-ec", selfSigned+`sed -i 's|/etc/dovecot/tls/mx.crt|`+snakeoilCertificate+`|; s|/etc/dovecot/tls/mx.key|`+snakeoilKey+`|' /etc/dovecot/local.conf; systemctl restart dovecot`)
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:993"))
	before := must(t, s.Host, "sh", "-c", "cat /etc/dovecot/*.conf /etc/dovecot/conf.d/*")
	r := s.mxcert(s.initArguments("--mta", "dovecot", "--configure")...)
	if said := r.Stdout + r.Stderr; r.Code != 1 || !strings.Contains(said, "Dovecot would still read") || !strings.Contains(said, "at the end of /etc/dovecot/local.conf") {
		t.Errorf("init: exit code %d", r.Code)
	}
	if after := must(t, s.Host, "sh", "-c", "cat /etc/dovecot/*.conf /etc/dovecot/conf.d/*"); after != before {
		t.Error("the configuration of Dovecot has changed")
	}
	_, err := s.ServedBy(t.Context(), "127.0.0.1:993", "mx.example.org", "")
	s.check(err)
}

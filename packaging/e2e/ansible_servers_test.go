package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The role tells Postfix and Dovecot to read the files after the files exist: senders get a certificate all the time.
func TestAnsiblePostfixAndDovecot(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true, server: mailhost.Postfix})
	a := newController(t, deb(t, "1.0"), s.Host)
	settings := "{ssl_server_cert_file: /etc/dovecot/tls/mxcert.crt, ssl_server_key_file: /etc/dovecot/tls/mxcert.key}"
	if mailhost.DefaultRelease() == mailhost.Debian12 {
		settings = `{ssl_cert: "</etc/dovecot/tls/mxcert.crt", ssl_key: "</etc/dovecot/tls/mxcert.key"}`
	}
	play := []string{
		"[{exim: {certificate: /var/lib/mxcert-keys/mx.crt, private_key: /var/lib/mxcert-keys/mx.key, unit: exim4.service}}]",
		"[{postfix: {combined: /etc/postfix/tls/mxcert.pem}}, {dovecot: {certificate: /etc/dovecot/tls/mxcert.crt, private_key: /etc/dovecot/tls/mxcert.key}}]",
		`"127.0.0.1:25"]`, `"127.0.0.1:25", "127.0.0.1:993"]`,
		"      mxcert_key_readers: [Debian-exim]\n      mxcert_exim_macros: {MAIN_TLS_ENABLE: \"yes\"}\n",
		"      mxcert_postfix_settings: {smtpd_tls_chain_files: /etc/postfix/tls/mxcert.pem}\n      mxcert_dovecot_settings: " + settings + "\n",
	}
	load := s.StartLoad(t.Context(), 2, 50*time.Millisecond, "127.0.0.1:25")
	if r := a.predicted("first play", play...); !strings.Contains(r.output, "RUNNING HANDLER [mxcert : Reload Postfix]") {
		t.Errorf("Postfix was not reloaded, so its processes serve what they read before:\n%s", r.output)
	}
	if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
		t.Errorf("senders had no certificate: %v", counts)
	}
	serial := s.fileSerial("/etc/dovecot/tls/mxcert.crt")
	s.servedAt(serial, mailhost.RootsFile, "127.0.0.1:25", "127.0.0.1:993")
	if r := a.predicted("second play", play...); r.changed != 0 {
		t.Errorf("changed=%d\n%s", r.changed, r.output)
	}

	// Without a renewal nothing makes the files: then the servers are left as they are.
	missing := append(play, "chain_files: /etc/postfix/tls/mxcert.pem", "chain_files: /etc/postfix/tls/none.pem")
	if r := a.run(missing); r.failed == 0 || r.changed != 0 || !strings.Contains(r.output, "/etc/postfix/tls/none.pem, which does not exist") {
		t.Errorf("a file that does not exist:\n%s", r.output)
	}
	s.servedAt(serial, mailhost.RootsFile, "127.0.0.1:25", "127.0.0.1:993")
}

// A fleet, one host after the other: the first failure ends the play, and the other host is not touched.
func TestAnsibleFleet(t *testing.T) {
	t.Parallel()
	first, second := begin(t, options{bare: true}), begin(t, options{bare: true})
	a := newController(t, deb(t, "1.0"), first.Host, second.Host)
	a.play = strings.Replace(a.play, "- hosts: mx\n", "- hosts: mx\n  serial: 1\n  any_errors_fatal: true\n", 1)
	must(t, first.Host, "systemctl", "stop", "pebble")
	r := a.run(nil)
	if r.failed == 0 || r.touched["mx2"] != 0 || !strings.Contains(r.output, "next step: ") {
		t.Errorf("the first host fails: failed=%d, tasks: %v\n%s", r.failed, r.touched, r.output)
	}
	if r, err := second.Run(t.Context(), "test", "-e", "/usr/bin/mxcert"); err != nil || r.Code == 0 {
		t.Error("the second host was touched")
	}
	first.check(first.StartPebble(t.Context(), 90*24*time.Hour))
	must(t, first.Host, "systemctl", "restart", "mxcert") // this Pebble has another root
	if r := a.run(nil); r.failed != 0 {
		t.Fatalf("both hosts:\n%s", r.output)
	}
	serials := fmt.Sprint(first.servedByAuthority(), second.servedByAuthority())
	if r := a.predicted("second play"); r.changed != 0 {
		t.Errorf("changed=%d\n%s", r.changed, r.output)
	}
	if now := fmt.Sprint(first.servedByAuthority(), second.servedByAuthority()); now != serials {
		t.Errorf("%s became %s", serials, now)
	}
}

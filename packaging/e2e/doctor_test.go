package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// checkup is the document of doctor --json.
type checkup struct {
	OK     bool
	Checks []struct{ ID, Certificate, Severity, Name, Message, Hint string }
}

// String lists the checks for a failing test.
func (c checkup) String() string {
	var text strings.Builder
	for _, check := range c.Checks {
		fmt.Fprintf(&text, "\n  %s %s: %s (%s)", check.Severity, check.ID, check.Message, check.Hint)
	}
	return text.String()
}

// doctor runs doctor --json, which has to end in time with an exit code.
func (s *story) doctor(code int, args ...string) checkup {
	s.t.Helper()
	began := time.Now()
	r := s.mxcert(append([]string{"doctor", "--json"}, args...)...)
	took := time.Since(began)
	var c checkup
	if err := json.Unmarshal([]byte(r.Stdout), &c); err != nil || r.Code != code || c.OK != (code == 0) || took > time.Minute {
		s.t.Errorf("doctor: exit code %d after %s, want %d, %v:%s\n%s", r.Code, took.Round(time.Millisecond), code, err, c, r.Stderr)
	}
	for _, check := range c.Checks {
		if check.Severity != "ok" && check.Hint == "" {
			s.t.Errorf("no hint: %+v", check)
		}
	}
	return c
}

// expect checks that a check of that ID and severity says a text.
func (c checkup) expect(t *testing.T, severity, id, says string) {
	t.Helper()
	for _, check := range c.Checks {
		if check.ID == id && check.Severity == severity && strings.Contains(check.Message+" "+check.Hint, says) {
			return
		}
	}
	t.Errorf("not found: %s %s that says %q in%s", severity, id, says, c)
}

// TestDoctorOnMailHosts: doctor looks at what senders meet on a host with a documentation address, whose zone is signed, with the real
// servers: first as they are installed, then with what people do to them.
func TestDoctorOnMailHosts(t *testing.T) {
	for _, tt := range []struct {
		server                  mailhost.Server
		kind, target, listen    string
		client, without, broken string // commands that make a client certificate, take it away, and break stapling
		says, clientSays        string
	}{
		{server: mailhost.Exim, kind: "exim", target: "      - exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}\n",
			listen:  "sed -i \"s/^dc_local_interfaces=.*/dc_local_interfaces=''/\" /etc/exim4/update-exim4.conf.conf; update-exim4.conf; systemctl restart exim4",
			client:  "echo 'REMOTE_SMTP_TLS_CERTIFICATE = /etc/exim4/exim.crt' >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf",
			without: "sed -i /REMOTE_SMTP_TLS/d /etc/exim4/exim4.conf.localmacros; update-exim4.conf",
			broken:  "echo 'tls_ocsp_file = /etc/exim4/ocsp.der' >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf",
			says:    "dc_local_interfaces", clientSays: "the transport remote_smtp of Exim (tls_certificate) shows /etc/exim4/exim.crt"},
		{server: mailhost.Postfix, kind: "postfix", target: "      - postfix: {certificate: /etc/postfix/tls/mx.crt, private_key: /etc/postfix/tls/mx.key, unit: postfix.service}\n      - dovecot: {certificate: /etc/dovecot/tls/mx.crt, private_key: /etc/dovecot/tls/mx.key, unit: dovecot.service}\n",
			listen:  "postconf -e inet_interfaces=all; systemctl restart postfix",
			client:  "postconf -e smtp_tls_cert_file=/etc/postfix/tls/mx.crt smtp_tls_key_file=/etc/postfix/tls/mx.key",
			without: "postconf -X smtp_tls_cert_file smtp_tls_key_file",
			says:    "inet_interfaces", clientSays: "main.cf of Postfix (smtp_tls_cert_file) shows /etc/postfix/tls/mx.crt"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			servers := []string{tt.kind}
			if tt.kind == "postfix" {
				servers = append(servers, "dovecot")
			}
			config := strings.Replace(serversConfig(tt.target, servers...), `resolvers: ["127.0.0.1:53"]`, `resolvers: ["127.0.0.53:53"]`, 1)
			s := begin(t, options{server: tt.server, config: strings.Replace(config, "    domains: [mx.example.org, host7.example.org]\n", "    domains: [mx.example.org, host7.example.org]\n    mail_domains: [example.org]\n", 1)})
			must(t, s.Host, "sh", "-ec", "ip address add 192.0.2.25/32 dev lo; systemctl start resolver.service")
			s.signedZone("update delete mx.example.org A", "update delete mx.example.org AAAA", "update add mx.example.org 5 A 192.0.2.25")

			s.report(0, "renew")
			c := s.doctor(0)
			c.expect(t, "ok", "mx", "mx.example.org, an MX host of example.org, is this host, and the certificate covers it")
			c.expect(t, "warning", "port-25-in", tt.says)
			c.expect(t, "ok", "port-25-out", "not judged")
			c.expect(t, "ok", "client-certificate", "shows no certificate")
			c.expect(t, "ok", "tlsa", "has no TLSA record")
			c.expect(t, "ok", "mta-sts", "has no MTA-STS")
			c.expect(t, "ok", "ehlo", "calls itself mx.example.org")
			c.expect(t, "warning", "ptr", "192.0.2.25 has no name in DNS")

			must(t, s.Host, "sh", "-ec", tt.listen)
			s.check(s.AwaitPort(t.Context(), "192.0.2.25:25"))
			c = s.doctor(0, "--online")
			c.expect(t, "ok", "port-25-in", "mx.example.org [192.0.2.25] answers at port 25")
			c.expect(t, "ok", "online", "rfc2136 created a TXT record for mx.example.org, host7.example.org")
			c.expect(t, "ok", "clock", "agree")
			c.expect(t, "ok", "deploy", "can be written")
			t.Log(c)

			must(t, s.Host, "sh", "-ec", tt.client)
			s.doctor(0).expect(t, "warning", "client-certificate", tt.clientSays)
			must(t, s.Host, "sh", "-ec", tt.without)
			if tt.broken != "" {
				must(t, s.Host, "sh", "-ec", tt.broken)
				s.doctor(3).expect(t, "error", "ocsp-file", "does not exist: Exim refuses STARTTLS with 454")
				must(t, s.Host, "sh", "-ec", "sed -i /tls_ocsp_file/d /etc/exim4/exim4.conf.localmacros; update-exim4.conf")

				must(t, s.Host, "sh", "-ec", "cd /etc/exim4; cp -p exim.crt other.crt; cp -p exim.key other.key; printf 'MAIN_TLS_CERTIFICATE = %s : %s\nMAIN_TLS_PRIVATEKEY = %s : %s\n' "+
					"/etc/exim4/exim.crt /etc/exim4/other.crt /etc/exim4/exim.key /etc/exim4/other.key >>exim4.conf.localmacros; update-exim4.conf")
				c = s.doctor(0)
				c.expect(t, "ok", "exim-files", "Exim reads /etc/exim4/exim.crt")
				c.expect(t, "warning", "exim-files", "Exim also reads /etc/exim4/other.crt (tls_certificate), which mxcert does not write: its certificate is valid until")
				must(t, s.Host, "sh", "-ec", "sed -i 's|/etc/exim4/exim[.]... : ||' /etc/exim4/exim4.conf.localmacros; update-exim4.conf")
				s.doctor(3).expect(t, "error", "deploy", "Exim does not read /etc/exim4/exim.crt")
				must(t, s.Host, "sh", "-ec", "sed -i /MAIN_TLS_[CP]/d /etc/exim4/exim4.conf.localmacros; update-exim4.conf")
			}
			s.signedZone("update add _25._tcp.mx.example.org 5 TLSA 3 1 1 " + strings.Repeat("ab", 32))
			c = s.doctor(3)
			c.expect(t, "error", "senders", "dane")
			c.expect(t, "ok", "tlsa", "has 1 signed TLSA record")
			figure(t, "doctor on a host with %s: %d lines", tt.kind, len(c.Checks))
		})
	}
}

// signedZone changes the zones of the host, and waits until the answers are signed again and old ones are forgotten.
func (s *story) signedZone(lines ...string) {
	s.t.Helper()
	s.zone(lines...)
	time.Sleep(6 * time.Second)
	must(s.t, s.Host, "systemctl", "restart", "resolver.service")
	eventually(s.t, 10*time.Second, func() error {
		if out := must(s.t, s.Host, "dig", "+adflag", "@127.0.0.53", "mx.example.org", "A"); !strings.Contains(out, " ad;") {
			return fmt.Errorf("no validated answer:\n%s", out)
		}
		return nil
	})
}

// TestDoctorOnlineByTheService: systemd hands the secret only to the service. The daemon writes and removes the records, and without a daemon
// nothing is written, and doctor says how to do it.
func TestDoctorOnlineByTheService(t *testing.T) {
	t.Parallel()
	s := begin(t, options{service: true})
	must(t, s.Host, "sh", "-ec", "install -d /etc/systemd/system/mxcert.service.d; mv /etc/mxcert/credentials/tsig /root/tsig; chown root:root /root/tsig; chmod 600 /root/tsig; "+
		"printf '[Service]\nLoadCredential=tsig:/root/tsig\n' >/etc/systemd/system/mxcert.service.d/tsig.conf; systemctl daemon-reload; systemctl start mxcert")
	eventually(t, time.Minute, func() error {
		if r := s.mxcert("status", "-q"); r.Code != 0 {
			return fmt.Errorf("status: exit code %d", r.Code)
		}
		return nil
	})
	c := s.doctor(0, "--online")
	c.expect(t, "ok", "secrets", "can be read by the service")
	c.expect(t, "ok", "online", "rfc2136 created a TXT record for mx.example.org, host7.example.org, all name servers showed it, and it is removed")
	s.noTXT()
	must(t, s.Host, "systemctl", "stop", "mxcert")
	c = s.doctor(0, "--online")
	c.expect(t, "warning", "dns-provider", "mxcert doctor --online")
	for _, check := range c.Checks {
		if check.ID == "online" {
			t.Errorf("something was written: %+v", check)
		}
	}
}

// TestDoctorAndPolicies: an HTTPS server (openssl s_server) has the MTA-STS policy of the mail domain: a good one, one that forgets the MX
// host, and a redirect.
func TestDoctorAndPolicies(t *testing.T) {
	t.Parallel()
	config := strings.Replace(hostConfig, `resolvers: ["127.0.0.1:53"]`, `resolvers: ["127.0.0.53:53"]`, 1)
	s := begin(t, options{config: strings.Replace(config, "    domains: [mx.example.org, host7.example.org]\n", "    domains: [mx.example.org, mta-sts.example.org]\n    mail_domains: [example.org]\n", 1)})
	must(t, s.Host, "sh", "-ec", "ip address add 192.0.2.25/32 dev lo; systemctl start resolver.service; mkdir -p /srv/sts/.well-known; "+
		"sed -i \"s/^dc_local_interfaces=.*/dc_local_interfaces=''/\" /etc/exim4/update-exim4.conf.conf; update-exim4.conf; systemctl restart exim4")
	s.signedZone("update delete mx.example.org A", "update delete mx.example.org AAAA", "update add mx.example.org 5 A 192.0.2.25",
		"update add mta-sts.example.org 5 A 192.0.2.25", `update add _mta-sts.example.org 5 TXT "v=STSv1; id=1;"`)
	s.check(s.AwaitPort(t.Context(), "192.0.2.25:25"))
	s.report(0, "renew")
	serve := func(answer string) {
		t.Helper()
		s.check(s.Put("/srv/sts/.well-known/mta-sts.txt", []byte(answer), 0o644))
	}
	const policy = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 1209600\r\n"
	serve(policy)
	s.doctor(3).expect(t, "error", "sts-policy-fetch-error", "connection refused")
	must(t, s.Host, "systemd-run", "--unit=policy", "--working-directory=/srv/sts", "openssl", "s_server", "-accept", "192.0.2.25:443", "-cert", certificateFile, "-cert_chain", certificateFile, "-key", keyFile, "-HTTP", "-quiet")
	s.check(s.AwaitPort(t.Context(), "192.0.2.25:443"))
	c := s.doctor(0)
	c.expect(t, "ok", "mta-sts", "example.org has an MTA-STS policy: mode enforce, mx mx.example.org, max_age 1209600 s, id 1")
	c.expect(t, "ok", "senders", "mta_sts pass")
	serve(strings.Replace(policy, "mx: mx.", "mx: mx9.", 1))
	c = s.doctor(3)
	c.expect(t, "error", "mta-sts", "does not permit mx.example.org, its MX host")
	c.expect(t, "warning", "senders", "a sender with mta_sts fails")
	serve("HTTP/1.0 301 Moved\r\nLocation: https://www.example.org/\r\nContent-Type: text/plain\r\n\r\n")
	s.doctor(3).expect(t, "error", "sts-policy-redirect", "https://www.example.org/")
}

package discover

import (
	"errors"
	"fmt"
	"testing"
)

// TestSendingOfExim: what exim4 -bP of Debian prints, with a macro for a client certificate.
func TestSendingOfExim(t *testing.T) {
	program(t, "exim4", `
case "$*" in
*primary_hostname*) cat <<'END'
primary_hostname = mx.example.org
smtp_active_hostname = ${if eq{$received_ip_address}{192.0.2.1}{a}{b}}
tls_certificate = /etc/exim4/exim.crt
tls_ocsp_file = /etc/exim4/ocsp.der
END
;;
*transports*) cat <<'END'

mail_spool transport:
no_body_only
driver = appendfile

remote_smtp transport:
driver = smtp
helo_data = $primary_hostname
tls_certificate = /etc/exim4/exim.crt

remote_smtp_smarthost transport:
driver = smtp
helo_data = out.example.org
tls_certificate = 

remote_smtp_other transport:
driver = smtp
helo_data = ${lookup dnsdb{ptr=$sending_ip_address}}
tls_certificate = ${if eq{$host}{x}{/a.pem}}
END
;;
esac`)
	s, err := LookAtSending(t.Context(), "exim")
	want := "{exim mx.example.org [mx.example.org out.example.org] [{the transport remote_smtp tls_certificate /etc/exim4/exim.crt} {the transport remote_smtp_other tls_certificate ${if eq{$host}{x}{/a.pem}}}] /etc/exim4/exim.crt /etc/exim4/ocsp.der}"
	if err != nil || fmt.Sprint(s) != want {
		t.Errorf("%v, %v; want %s", s, err, want)
	}
}

// TestSendingOfPostfix: main.cf, and a service that overrides it.
func TestSendingOfPostfix(t *testing.T) {
	program(t, "postconf", `
case "$*" in
*-P*) cat <<'END'
relay/unix/syslog_name = postfix/relay
relay/unix/smtp_tls_cert_file = /etc/postfix/relay.pem
submission/inet/smtpd_tls_security_level = encrypt
END
;;
*) cat <<'END'
myhostname = mx.example.org
smtp_helo_name = out.example.org
smtp_tls_chain_files = /etc/postfix/mx.key, /etc/postfix/mx.crt
smtp_tls_cert_file =
smtp_tls_eccert_file = none
END
;;
esac`)
	s, err := LookAtSending(t.Context(), "postfix")
	want := "{postfix mx.example.org [out.example.org] [{main.cf smtp_tls_chain_files /etc/postfix/mx.key} {main.cf smtp_tls_chain_files /etc/postfix/mx.crt} {the service relay/unix in master.cf smtp_tls_cert_file /etc/postfix/relay.pem}]  }"
	if err != nil || fmt.Sprint(s) != want {
		t.Errorf("%v, %v; want %s", s, err, want)
	}
}

func TestSendingOfNobody(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, kind := range []string{"exim", "postfix", "dovecot"} {
		if s, err := LookAtSending(t.Context(), kind); !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v, %v", kind, s, err)
		}
	}
}

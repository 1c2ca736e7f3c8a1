package starttls

import (
	"errors"
	"strings"
	"testing"
)

func TestProtocolOf(t *testing.T) {
	for address, want := range map[string]Protocol{
		"127.0.0.1:25": SMTP, "[::1]:587": SMTP, "mx:465": SMTPS, "[::1]:143": IMAP, "mx:110": POP3, "127.0.0.1:993": TLS, "mx:995": TLS, "mx:2525": SMTP, "mx": SMTP,
	} {
		if got := ProtocolOf(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// What servers were seen to say.
const (
	dovecotIMAP = `
	> * OK [CAPABILITY IMAP4rev1 LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS LOGINDISABLED] Dovecot (Debian) ready.\r\n
	< mxcert STARTTLS
	> mxcert OK Begin TLS negotiation now.\r\n
	tls
	< mxcert LOGOUT
	> * BYE Logging out\r\nmxcert OK Logout completed.\r\n
	wait
	`
	dovecotPOP3 = `
	> +OK Dovecot (Debian) ready.\r\n
	< STLS
	> +OK Begin TLS negotiation now.\r\n
	tls
	< QUIT
	> +OK Logging out\r\n
	wait
	`
)

func TestOtherProtocols(t *testing.T) {
	w := theWorld()
	for _, tt := range []struct {
		what     string
		protocol Protocol
		script   string
		kind     string // of the error; "" for none
		says     string
	}{
		{"IMAP", IMAP, dovecotIMAP, "", ""},
		{"IMAP, talkative", IMAP, strings.Replace(dovecotIMAP, "> mxcert OK Begin", `> * CAPABILITY X\r\nmxcert ok Begin`, 1), "", ""},
		{"IMAP without TLS", IMAP, "> * OK hi\\r\\n\n< mxcert STARTTLS\n> mxcert BAD TLS support isn't enabled.\\r\\n\nwait", "starttls-not-supported", "isn't enabled"},
		{"IMAP says no", IMAP, "> * BYE overloaded\\r\\n\nwait", "rejected", "overloaded"},
		{"IMAP with something in clear text", IMAP, strings.Replace(dovecotIMAP, `negotiation now.\r\n`, `negotiation now.\r\n* OK injected\r\n`, 1), "injection", "injected"},
		{"IMAP that never answers", IMAP, "> * OK hi\\r\\n\n< mxcert STARTTLS\n> " + strings.Repeat(`* X\r\n`, 30) + "\nwait", "protocol", "does not answer"},
		{"IMAP without an end", IMAP, "> * OK " + strings.Repeat("x", 3000) + "\nwait", "protocol", "longer than"},
		{"SMTP where IMAP should be", IMAP, "> 220 mx ESMTP\\r\\n\nwait", "protocol", "220 mx"},
		{"POP3", POP3, dovecotPOP3, "", ""},
		{"POP3 without TLS", POP3, "> +OK hi\\r\\n\n< STLS\n> -ERR no\\r\\n\nwait", "starttls-not-supported", "-ERR no"},
		{"TLS first", TLS, "tls\nwait", "", ""},
		{"SMTP with TLS first", SMTPS, "tls\n" + greeted + "> 250-mx hello\\r\\n250 SIZE 1000\\r\\n\n< QUIT\n> 221 bye\\r\\n\nwait", "", ""},
		{"SMTP where TLS should be first", TLS, "> 220 mx ESMTP\\r\\n\nwait", "validation-failure", "TLS on 127"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			q := request(serve(t, bothKeys(), tt.script))
			q.Protocol = tt.protocol
			r, err := Handshake(t.Context(), q)
			if tt.kind == "" {
				if err != nil || !Match(r.Chain, w.ec.certificate, w.rsa.certificate) {
					t.Errorf("%+v, %v", r, err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind() != tt.kind || !strings.Contains(e.Error(), tt.says) || e.Hint() == "" {
				t.Errorf("%v, want %s", err, tt.kind)
			}
		})
	}
}

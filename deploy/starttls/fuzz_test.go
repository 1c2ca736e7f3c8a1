package starttls

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
)

// FuzzCertificates takes any bytes as certificates that a server sent. CheckChain must have words for every chain, and what Go cannot parse
// must become an error that is fit to print, and that blames the server only if nobody can read it.
func FuzzCertificates(f *testing.F) {
	w := theWorld()
	f.Add(w.ec.certificate.Raw, w.intermediate.certificate.Raw)
	f.Add(w.rsa.certificate.Raw, w.rsa.certificate.Raw)
	f.Add(w.intermediate.certificate.Raw, w.ec.certificate.Raw)
	f.Add(leaf(ECDSA, w.intermediate, func(c *x509.Certificate) { c.DNSNames = []string{"*.example.org", "x"} }).certificate.Raw, w.root.certificate.Raw)
	f.Add([]byte{0x30, 0x03, 1, 2, 3}, []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var chain []*x509.Certificate
		for _, der := range [][]byte{first, second} {
			certificate, err := x509.ParseCertificate(der)
			if err == nil {
				chain = append(chain, certificate)
				continue
			}
			s := &session{request: request("mx:25").withDefaults(), result: &Result{}, ctx: t.Context()}
			e := s.ioError(StepTLS, errors.New("tls: failed to parse certificate from server: "+err.Error()))
			assertError(t, e, StepTLS, e.Kind())
			if e.Kind() != KindNotJudged && e.Kind() != KindValidationFailure {
				t.Errorf("%v has kind %s", e, e.Kind())
			}
		}
		for _, found := range CheckChain(chain, []string{"mx.example.org"}, nil, time.Now()) {
			if found.ID == "" || found.Severity == finding.OK || found.Hint == "" || len(found.Message) > 4000 || strings.ContainsFunc(found.Message, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%+v", found)
			}
		}
	})
}

// FuzzConversation is a server that says anything, whatever it is asked. Handshake must end with an error that is fit to print.
func FuzzConversation(f *testing.F) {
	protocols := []Protocol{SMTP, SMTPS, IMAP, POP3, TLS}
	for _, seed := range []string{
		"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n\x15\x03\x03\x00\x02\x02\x28",
		"220 mx\r\n250-mx\r\n250-SIZE 1\r\n250 XXXXXXXA\r\n",
		"220 ********************\r\n500 what\r\n",
		"220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 no\r\n221 bye\r\n",
		"* OK [CAPABILITY IMAP4rev1] hi\r\n* X\r\nmxcert OK go\r\n\x16\x03\x03\xff\xff",
		"+OK hi\r\n-ERR no\r\n",
		"421 later\r\n",
	} {
		for i := range protocols {
			f.Add(uint8(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, protocol uint8, says []byte) {
		q := request("mx:25")
		q.Protocol, q.KeyType = protocols[int(protocol)%len(protocols)], ECDSA
		q.Dialer = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			go func() {
				defer server.Close()
				_, _ = server.Write(says)
			}()
			return client, nil
		}
		r, err := Handshake(t.Context(), q)
		var e *Error
		if r != nil || !errors.As(err, &e) {
			t.Fatalf("%+v, %v", r, err)
		}
		assertError(t, err, e.Step, e.Kind())
		if e.Kind() == KindNotJudged && e.Step != StepTLS {
			t.Errorf("not judged before TLS: %v", e)
		}
	})
}

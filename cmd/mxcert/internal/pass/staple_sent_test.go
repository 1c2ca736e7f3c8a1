package pass

import (
	"os"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// TestServerThatSendsNoStaple: the response is in place, and the server does not send it.
func TestServerThatSendsNoStaple(t *testing.T) {
	t.Parallel()
	h, r := staplingHost(t, true, "another.der")
	warned := func(c report.Certificate, sent, what string) {
		t.Helper()
		if got := c.Endpoints[0].OCSP; got != sent {
			t.Errorf("the server sends %q, not %q", got, sent)
		}
		text := strings.Join(c.Warnings, " ")
		if what == "" && text != "" || !strings.Contains(text, what) || what != "" && !strings.Contains(text, "does Exim's tls_ocsp_file name "+h.Path("tls", "ocsp.der")) {
			t.Errorf("the warnings are %q, not %q", c.Warnings, what)
		}
	}
	c := h.pass(report.CodeOK, renew)
	warned(c, "none", "the server sends no OCSP response")
	if c.Stage != report.Served {
		t.Errorf("the certificate is %s", c.Stage)
	}
	warned(h.look(report.CodeOK), "none", "the server sends no OCSP response")
	old := h.file("ocsp.der")

	put := func(der string) { h.check(os.WriteFile(h.Path("tls", "another.der"), []byte(der), 0o644)) }
	put(old)
	warned(h.pass(report.CodeOK, byDaemon), "good", "")
	r.set(func(r *responder) { r.this, r.life = time.Now().Add(-2*time.Hour), time.Hour })
	put(h.says(r, xocsp.Good))
	warned(h.look(report.CodeOK), "expired", "expired at")
	r.set(func(r *responder) { r.this = time.Time{} })
	put(h.says(r, xocsp.Revoked))
	warned(h.pass(report.CodeOK, byDaemon), "invalid", "says revoked")
	put("text")
	warned(h.look(report.CodeOK), "invalid", "does not belong to the certificate")

	put(old)
	h.pass(report.CodeOK, atOnce)
	warned(h.look(report.CodeOK), "invalid", "no response matching the supplied certificate")
}

// says makes a response about the certificate in service.
func (h *host) says(r *responder, status int) string {
	h.t.Helper()
	list, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	issuer, key := r.ca.Issuer()
	this := r.this
	if this.IsZero() {
		this = time.Now()
	}
	der, err := xocsp.CreateResponse(issuer, issuer, xocsp.Response{Status: status, SerialNumber: list[0].SerialNumber, ThisUpdate: this, NextUpdate: this.Add(r.life), RevokedAt: this}, key)
	h.check(err)
	return string(der)
}

// Only Exim sends what mxcert writes: the ports of Dovecot are not asked for it.
func TestWhoSends(t *testing.T) {
	t.Parallel()
	h, _ := stapledHost(t, true)
	want := h.wants().Certificates[0]
	for endpoint, wants := range map[string]bool{"127.0.0.1:25": true, "127.0.0.1:465": true, "127.0.0.1:993": false, "127.0.0.1:143": false, "127.0.0.1:2525": true} {
		if got := sends(want, endpoint); got != wants {
			t.Errorf("%s: %v", endpoint, got)
		}
	}
	if sends(wanted.Certificate{}, "127.0.0.1:25") {
		t.Error("a certificate without responses")
	}
}

package ca

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/letsencrypt/pebble/v2/core"
)

// Issued are the certificates of all orders, oldest order first.
func (c *CA) Issued() []*x509.Certificate {
	c.front.mu.Lock()
	orders := append([]string(nil), c.front.orders...)
	c.front.mu.Unlock()
	var issued []*x509.Certificate
	for _, id := range orders {
		order := c.store.GetOrderByID(id)
		if order == nil {
			continue
		}
		order.RLock()
		if order.CertificateObject != nil {
			issued = append(issued, order.CertificateObject.Cert)
		}
		order.RUnlock()
	}
	return issued
}

// Revoked tells whether a certificate is revoked and for what reason (RFC 5280 section 5.3.1; 0 when none was given).
func (c *CA) Revoked(serial *big.Int) (reason uint, revoked bool) {
	found := c.store.GetRevokedCertificateBySerial(serial)
	if found == nil {
		return 0, false
	}
	if found.Reason != nil {
		reason = *found.Reason
	}
	return reason, true
}

// SetRenewalInfo sets the body that the CA gives as the renewal information of a certificate (RFC 9773 section 4.2).
// It is sent as it is, so that it may be malformed; "" brings the CA's own answer back.
func (c *CA) SetRenewalInfo(serial *big.Int, body string) error {
	if err := c.store.SetARIResponse(serial, body); err != nil {
		return fmt.Errorf("set the renewal information: %v", err)
	}
	return nil
}

// SetRenewalWindow sets the suggested window of a certificate.
func (c *CA) SetRenewalWindow(serial *big.Int, start, end time.Time) error {
	return c.SetRenewalInfo(serial, windowJSON(start, end))
}

func windowJSON(start, end time.Time) string {
	return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, start.UTC().Format(time.RFC3339Nano), end.UTC().Format(time.RFC3339Nano))
}

// shortLived is the lifetime below which Pebble's window, always two days wide, says nothing.
const shortLived = 10 * 24 * time.Hour

// renewalInfo answers for certificates that live only days or minutes as Let's Encrypt does: a window that begins after
// two thirds of the lifetime and is 2 % of it wide. All others are Pebble's.
func (f *front) renewalInfo(w http.ResponseWriter, r *http.Request) {
	certificate := f.certificateOf(r)
	if certificate == nil {
		f.pebble.ServeHTTP(w, r)
		return
	}
	lifetime := certificate.Cert.NotAfter.Sub(certificate.Cert.NotBefore)
	start := certificate.Cert.NotBefore.Add(lifetime * 2 / 3)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds(lifetime/10))))
	_, _ = w.Write([]byte(windowJSON(start, start.Add(lifetime/50))))
}

// certificateOf finds the short-lived, unrevoked certificate without an answer of its own that a request is about.
func (f *front) certificateOf(r *http.Request) *core.Certificate {
	if r.Method != http.MethodGet {
		return nil
	}
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	authority, encoded, _ := strings.Cut(id, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	serial := new(big.Int).SetBytes(raw)
	certificate := f.store.GetCertificateBySerial(serial)
	switch {
	case certificate == nil, certificate.ARIResponse != "", f.store.GetRevokedCertificateBySerial(serial) != nil:
		return nil
	case authority != base64.RawURLEncoding.EncodeToString(certificate.Cert.AuthorityKeyId):
		return nil
	case certificate.Cert.NotAfter.Sub(certificate.Cert.NotBefore) >= shortLived:
		return nil
	}
	return certificate
}

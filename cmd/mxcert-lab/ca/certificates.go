package ca

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Issued returns the certificates of all orders, oldest order first.
func (c *CA) Issued() []*x509.Certificate {
	c.front.mu.Lock()
	orders := slices.Clone(c.front.orders)
	c.front.mu.Unlock()
	var issued []*x509.Certificate
	for _, order := range orders {
		order.RLock()
		if order.CertificateObject != nil {
			issued = append(issued, order.CertificateObject.Cert)
		}
		order.RUnlock()
	}
	return issued
}

// OrderStatus returns the status of the order at a path of this CA; "" if there is no such order.
func (c *CA) OrderStatus(orderPath string) string {
	if order := c.store.GetOrderByID(path.Base(orderPath)); order != nil {
		if status, err := order.GetStatus(); err == nil {
			return status
		}
	}
	return ""
}

// Revoked reports whether a certificate is revoked, and the reason (RFC 5280 section 5.3.1; 0 if none was given).
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

// SetRenewalInfo sets the body of the CA's answer about the renewal of a certificate (RFC 9773 section 4.2). The CA sends it as
// it is, so it may be malformed; "" restores the CA's own answer.
func (c *CA) SetRenewalInfo(serial *big.Int, body string) error {
	if c.store.GetCertificateBySerial(serial) == nil {
		return fmt.Errorf("set the renewal information: no certificate has the serial %x", serial)
	}
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.front.answers[serial.String()] = body
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
// two thirds of the lifetime and is 2 % of it wide. All others are Pebble's, unless an answer was set.
func (f *front) renewalInfo(w http.ResponseWriter, r *http.Request) {
	certificate := f.certificateOf(r)
	if certificate == nil {
		f.pebble.ServeHTTP(w, r)
		return
	}
	lifetime := certificate.NotAfter.Sub(certificate.NotBefore)
	f.mu.Lock()
	answer := f.answers[certificate.SerialNumber.String()]
	f.mu.Unlock()
	retryAfter := 6 * time.Hour // Pebble's own
	switch {
	case answer != "":
	case lifetime >= shortLived, f.store.GetRevokedCertificateBySerial(certificate.SerialNumber) != nil:
		f.pebble.ServeHTTP(w, r)
		return
	default:
		start := certificate.NotBefore.Add(lifetime * 2 / 3)
		answer, retryAfter = windowJSON(start, start.Add(lifetime/50)), max(time.Second, lifetime/10)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Retry-After", strconv.Itoa(seconds(retryAfter)))
	_, _ = w.Write([]byte(answer))
}

// certificateOf finds the certificate that a request is about (RFC 9773 section 4.1); nil leaves the error to Pebble,
// and the answer when one was set over Pebble's management interface.
func (f *front) certificateOf(r *http.Request) *x509.Certificate {
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	authority, encoded, _ := strings.Cut(id, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || r.Method != http.MethodGet {
		return nil
	}
	found := f.store.GetCertificateBySerial(new(big.Int).SetBytes(raw))
	if found == nil || found.ARIResponse != "" || authority != base64.RawURLEncoding.EncodeToString(found.Cert.AuthorityKeyId) {
		return nil
	}
	return found.Cert
}

// Package ari asks a CA when it wants a certificate renewed (ACME Renewal Information, RFC 9773).
//
// It draws one instant from the CA's window and keeps it until the window changes, and it obeys the CA's Retry-After. The room
// schedule decides when a certificate is in fact renewed. An unusable answer never makes a renewal fail: the caller then uses
// the lifetime.
package ari

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/schedule"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/transport"
)

const (
	// The CA's Retry-After is both the least and the most time until the next look (RFC 9773 section 4.3), within reason.
	soonest = time.Minute
	latest  = 24 * time.Hour
	// afterFailure is the pause after an unusable answer.
	afterFailure = 6 * time.Hour
	requests     = 10
)

// ErrNone says that the CA does not offer renewal information, or has none for this certificate.
var ErrNone = errors.New("the CA does not offer renewal information")

// CertID returns the identifier of a certificate for renewal information (RFC 9773 section 4.1); "" if the certificate has no
// authority key identifier.
func CertID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 {
		return ""
	}
	// The serial as DER encodes it: with a leading zero byte if the first bit is set.
	serial := leaf.SerialNumber.Bytes()
	if len(serial) == 0 || serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// Ask asks the CA when to renew a certificate, if it is time to ask again. known is what was remembered of earlier answers;
// Ask returns what to remember now. From each new window it draws one instant, each equally likely. An answer that cannot
// be used leaves known in force until the next try, and the error says why: ErrNone, a *session.Error or the context's.
func Ask(ctx context.Context, pool *transport.Pool, leaf *x509.Certificate, known state.RenewalInfo) (state.RenewalInfo, error) {
	now := time.Now()
	if now.Before(known.NextCheck) || now.After(leaf.NotAfter) {
		return known, nil // no questions about an expired certificate (RFC 9773 section 4.3)
	}
	known.NextCheck = now.Add(afterFailure).UTC()
	answer, wait, err := fetch(ctx, pool, leaf)
	if err != nil {
		return known, err
	}
	known.NextCheck = now.Add(max(soonest, min(wait, latest))).UTC()
	known.Explanation = finding.Quote(answer.Explanation, finding.MostQuoted)
	if answer.Window.Start.Equal(known.Start) && answer.Window.End.Equal(known.End) {
		return known, nil
	}
	known.Start, known.End = answer.Window.Start.UTC(), answer.Window.End.UTC()
	known.At = schedule.Draw(known.Start, known.End)
	return known, nil
}

// answer is the CA's answer (RFC 9773 section 4.2).
type answer struct {
	Window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	} `json:"suggestedWindow"`
	Explanation string `json:"explanationURL"`
}

func fetch(ctx context.Context, pool *transport.Pool, leaf *x509.Certificate) (a answer, wait time.Duration, err error) {
	id := CertID(leaf)
	if id == "" {
		return a, 0, ErrNone
	}
	o := pool.Begin(ctx, requests)
	directory, err := o.Directory()
	if err != nil {
		return a, 0, session.Explain(o, "directory", err)
	}
	if directory.RenewalInfo == "" {
		return a, 0, ErrNone
	}
	url := directory.RenewalInfo + "/" + id
	status, err := o.Get(url, &a)
	switch {
	case status == http.StatusNotFound:
		return a, 0, ErrNone
	case err == nil:
		err = checkWindow(a.Window.Start, a.Window.End, leaf)
	}
	return a, o.RetryAfter(url), session.Explain(o, "renewal information", err)
}

// checkWindow rejects an invalid renewal window: one whose end is not after its start (RFC 9773 section 4.2), or that is
// wider than the certificate's life, so that an instant from it would mean nothing.
func checkWindow(start, end time.Time, leaf *x509.Certificate) error {
	switch {
	case start.IsZero() || !end.After(start):
		return transport.NotACME("the renewal window from %s to %s is invalid", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	case end.Sub(start) > leaf.NotAfter.Sub(leaf.NotBefore):
		return transport.NotACME("the renewal window of %s is wider than the certificate's life", end.Sub(start))
	}
	return nil
}

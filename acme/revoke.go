package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/bundle"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

// Reason says why a certificate is revoked (RFC 5280 section 5.3.1). A CA accepts only these from a subscriber.
type Reason uint

// The reasons, under the names of RFC 5280.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
)

// String returns the name of the reason.
func (r Reason) String() string {
	switch r {
	case Unspecified:
		return "unspecified"
	case KeyCompromise:
		return "keyCompromise"
	case Superseded:
		return "superseded"
	case CessationOfOperation:
		return "cessationOfOperation"
	}
	return fmt.Sprintf("reason %d", uint(r))
}

// Revocation is what to revoke.
type Revocation struct {
	Certificate *x509.Certificate
	Reason      Reason
	// Key is the certificate's own key, which then signs the request; if it is nil, the account signs (RFC 8555 section 7.6).
	// For Let's Encrypt the certificate's own signature proves that the key is compromised, whatever the reason: it revokes
	// every certificate that has this key.
	Key      crypto.Signer
	Progress Progress          // may be nil
	Notice   func(text string) // see [Request]; may be nil
}

const revokeRequests = 40

// ByOtherKey reports whether the revocation, which failed with err, may succeed if the other key signs it: the CA does not
// accept this key, or there is no account.
func (r Revocation) ByOtherKey(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return errors.Is(err, state.ErrDamaged) || ok && e.ErrKind == "account" || session.ProblemIs(err, "unauthorized", "accountDoesNotExist") ||
		r.Key != nil && session.ProblemIs(err, "badPublicKey", "badSignatureAlgorithm", "malformed")
}

// Revoke asks the CA to revoke a certificate. already reports that it was revoked before. Errors are *Error of the
// stage "revoke" or "account", those of the store, or the context's; see [Revocation.ByOtherKey].
func (c *Client) Revoke(ctx context.Context, r Revocation) (already bool, err error) {
	release, err := c.store.ShareAccount(ctx, c.settings.Directory)
	if err != nil {
		return false, err
	}
	defer release()
	signer, err := c.revoker(ctx, r)
	if err != nil {
		return false, err
	}
	s, err := session.Begin(ctx, c.pool, signer, revokeRequests)
	if err != nil {
		return false, err
	}
	if s.Core.GetDirectory().RevokeCertURL == "" {
		return false, &Error{At: "revoke", ErrKind: "ca-refused", Message: c.ca() + " does not revoke certificates by ACME", NextStep: "ask the CA how to revoke one"}
	}
	message := legoacme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(r.Certificate.Raw)}
	if r.Reason != Unspecified { // RFC 5280 section 5.3.1: for unspecified, the request has no reason
		message.Reason = new(uint(r.Reason))
	}
	_, err = session.Call(s, func() (struct{}, error) { return struct{}{}, s.Core.Certificates.Revoke(message) })
	switch {
	case err == nil:
		return false, nil
	case session.ProblemIs(err, "alreadyRevoked"):
		return true, nil
	}
	return false, s.Explain("revoke", err)
}

// revoker returns the account that signs: the stored one, or one without a URL that has the certificate's own key.
func (c *Client) revoker(ctx context.Context, r Revocation) (state.Account, error) {
	if r.Key != nil {
		text, err := bundle.MarshalKey(r.Key)
		return state.Account{Directory: c.settings.Directory, Key: string(text)}, err
	}
	account, ok, err := c.store.Account(c.settings.Directory)
	if err != nil {
		return account, err
	}
	if !ok || account.URL == "" {
		return account, &Error{At: "account", ErrKind: "account", Message: "there is no account at " + c.ca(), NextStep: "mxcert account register"}
	}
	return c.Registrar(r.Progress, r.Notice).Ready(ctx)
}

package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Reason is why a certificate is revoked (RFC 5280 section 5.3.1). A CA refuses others than these from a subscriber.
type Reason uint

// The reasons, under the names of RFC 5280.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
)

// String is the name of the reason.
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
	// Key is the certificate's own key, which signs the request; nil: the account's does (RFC 8555 section 7.6). Let's
	// Encrypt takes a signature of the own key for proof that the key is compromised, whatever the reason, and then
	// revokes every certificate that has it.
	Key      crypto.Signer
	Progress Progress          // may be nil
	Notice   func(text string) // see [Request]; may be nil
}

const revokeRequests = 40

// ByOtherKey reports whether the revocation, which failed with err, may succeed when the other key signs it: the CA does
// not take this one, or there is no account.
func (r Revocation) ByOtherKey(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return errors.Is(err, state.ErrDamaged) || ok && e.ErrKind == "account" || problemIs(err, "unauthorized", "accountDoesNotExist") ||
		r.Key != nil && problemIs(err, "badPublicKey", "badSignatureAlgorithm", "malformed")
}

// Revoke asks the CA to revoke a certificate. already reports that it had been revoked before. Errors are *Error of the
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
	o, err := c.begin(ctx, signer, revokeRequests)
	if err != nil {
		return false, err
	}
	if o.core.GetDirectory().RevokeCertURL == "" {
		return false, &Error{Stage: "revoke", ErrKind: "ca-refused", Message: authority.Name(c.settings.Directory) + " revokes no certificates by ACME", NextStep: "ask the CA how it revokes"}
	}
	message := legoacme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(r.Certificate.Raw)}
	if r.Reason != Unspecified { // RFC 5280 section 5.3.1: it is told by telling no reason
		message.Reason = new(uint(r.Reason))
	}
	_, err = call(o, func() (struct{}, error) { return struct{}{}, o.core.Certificates.Revoke(message) })
	switch {
	case err == nil:
		return false, nil
	case problemIs(err, "alreadyRevoked"):
		return true, nil
	}
	return false, o.explain("revoke", err)
}

// revoker is who signs: the stored account, or one without a URL that has the certificate's own key.
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
		return account, &Error{Stage: "account", ErrKind: "account", Message: "there is no account at " + authority.Name(c.settings.Directory), NextStep: "mxcert account register"}
	}
	return c.keeper(r.Progress, r.Notice).account(ctx)
}

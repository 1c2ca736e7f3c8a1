package account

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-jose/go-jose/v4"

	"mxcert/acme/bundle"
	"mxcert/acme/session"
	"mxcert/acme/transport"
)

// poster sends signed requests whose bodies lego's core cannot make.
type poster struct {
	*session.Session
	nonces []string
}

// Nonce implements jose.NonceSource: the nonce of the last answer, else a new one (RFC 8555 section 7.2).
func (p *poster) Nonce() (string, error) {
	if n := len(p.nonces); n > 0 {
		nonce := p.nonces[n-1]
		p.nonces = p.nonces[:n-1]
		return nonce, nil
	}
	response, err := p.do(http.MethodHead, p.Core.GetDirectory().NewNonceURL, nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	nonce := response.Header.Get("Replay-Nonce")
	if nonce == "" {
		return "", transport.NotACME("no nonce (Replay-Nonce) in the answer to the request for one")
	}
	return nonce, nil
}

// post sends a body that the account's key signs, and returns the header Location. Errors are the CA's problem documents or
// the transport's; [session.Call] repeats it if the nonce is refused.
func (p *poster) post(url string, body []byte) (location string, err error) {
	key, err := bundle.ParseKey([]byte(p.Account.Key))
	if err != nil {
		return "", err
	}
	signed, err := sign(key, body, jose.SignerOptions{NonceSource: p, ExtraHeaders: map[jose.HeaderKey]any{"url": url, "kid": p.Account.URL}})
	if err != nil {
		return "", fmt.Errorf("sign the request: %w", err)
	}
	response, err := p.do(http.MethodPost, url, strings.NewReader(signed))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if nonce := response.Header.Get("Replay-Nonce"); nonce != "" {
		p.nonces = append(p.nonces, nonce)
	}
	location = response.Header.Get("Location")
	if response.StatusCode < http.StatusBadRequest {
		return location, nil
	}
	text, err := io.ReadAll(response.Body)
	problem := &legoacme.ProblemDetails{}
	if err := errors.Join(err, json.Unmarshal(text, problem)); err != nil {
		return location, transport.NotACME("an error without a problem document (%d)", response.StatusCode)
	}
	problem.HTTPStatus, problem.Method, problem.URL = response.StatusCode, http.MethodPost, url
	return location, problem
}

// do sends one request. The transport reads the whole answer, and turns every error status into a problem document.
func (p *poster) do(method, url string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(p.Context(), method, url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", p.Settings().UserAgent)
	if body != nil {
		request.Header.Set("Content-Type", "application/jose+json")
	}
	return p.Client().Do(request)
}

// sign makes a flattened JWS (RFC 8555 section 6.2).
func sign(key crypto.Signer, body []byte, options jose.SignerOptions) (string, error) {
	algorithm := jose.RS256
	if public, ok := key.Public().(*ecdsa.PublicKey); ok {
		if algorithm = jose.ES256; public.Curve == elliptic.P384() {
			algorithm = jose.ES384
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, &options)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.FullSerialize(), nil
}

// thumbprint returns the thumbprint of an account's key (RFC 7638), base64url, as it is in key authorizations (RFC 8555 section
// 8.1), and the key's type. key is PKCS #8 PEM.
func thumbprint(key string) (text string, keyType bundle.KeyType, err error) {
	signer, err := bundle.ParseKey([]byte(key))
	if err != nil {
		return "", "", err
	}
	keyType, err = bundle.TypeOf(signer.Public())
	if err != nil {
		return "", "", err
	}
	sum, err := (&jose.JSONWebKey{Key: signer.Public()}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), keyType, err
}

package ocsp

import "fmt"

// The kinds of errors, stable words for programs.
const (
	KindNoResponder = "ocsp-no-responder" // the certificate names no responder
	KindUnavailable = "ocsp-unavailable"  // the responder gave no answer that can be used
	KindInvalid     = "ocsp-invalid"      // a response that must not be served
	KindRevoked     = "ocsp-revoked"      // the CA says that the certificate is revoked
	KindUnknown     = "ocsp-unknown"      // the CA says that it does not know the certificate
	KindNotSent     = "ocsp-not-sent"     // a server sends no response along with the certificate
)

// Error says why there is no response that can be served.
type Error struct{ kind, text, hint string }

func (e *Error) Error() string { return e.text }

// Kind returns one of the kinds.
func (e *Error) Kind() string { return e.kind }

// Hint says what to do.
func (e *Error) Hint() string { return e.hint }

// Temporary reports whether a later request may bring a response.
func (e *Error) Temporary() bool {
	return e.kind == KindUnavailable || e.kind == KindInvalid || e.kind == KindUnknown
}

func fault(kind, format string, values ...any) *Error {
	return &Error{kind: kind, text: fmt.Sprintf(format, values...)}
}

func (e *Error) next(format string, values ...any) *Error {
	e.hint = fmt.Sprintf(format, values...)
	return e
}

// NoResponder says that a certificate cannot be stapled, and which setting to remove. path is that of the target.
func NoResponder(issuer, path string) error {
	return fault(KindNoResponder, "the certificate (from %q) names no OCSP responder, so nothing can be written to %s", issuer, path).
		next("remove `ocsp: %s` from the target in the configuration, and tls_ocsp_file from Exim's; Let's Encrypt and others have no OCSP any more", path)
}

// Problem returns why a response must not be served because of its status, or nil if it is good.
func (r *Response) Problem(serial string) error {
	switch r.Status {
	case Revoked:
		why := ""
		if r.Reason != "" {
			why = " (" + r.Reason + ")"
		}
		return fault(KindRevoked, "the CA says that the certificate with serial %s was revoked at %s%s", serial, clock(r.RevokedAt), why).
			next("replace it at once, with a new key: mxcert renew --now --new-key; if nobody you know has revoked it, find out why the CA has")
	case Unknown:
		return fault(KindUnknown, "the OCSP responder does not know the certificate with serial %s", serial).
			next("wait: some CAs publish a new certificate there only after a while; mxcert asks again. If it stays so for hours, ask the CA")
	}
	return nil
}

package acme

import (
	"strings"

	"mxcert/acme/session"
)

// KeyRefused reports whether a CA refuses to certify a key: it is on a list of compromised keys, or too weak for the CA (RFC 8555 section
// 6.7: badPublicKey). Some CAs say badCSR, with the key in the text.
func KeyRefused(err error) bool {
	return session.ProblemIs(err, "badPublicKey") ||
		session.ProblemIs(err, "badCSR") && strings.Contains(strings.ToLower(session.Said(err)), "key")
}

//go:build mailhost

package discover

import (
	"errors"
	"strings"
	"testing"

	"mxcert/deploy"
)

// TestMailhostEximTries: the real Exim opens new files before they are in place. It says yes to a pair and no to one that does not match, whether
// the files are two or one.
func TestMailhostEximTries(t *testing.T) {
	shell(t, "mkdir -p /etc/postfix/tls")
	first, certificate, key := issue(t, "first.example.org")
	_, _, otherKey := issue(t, "second.example.org")
	secret, _, _ := issue(t, "third.example.org")
	locked, _, _ := issue(t, "locked.example.org")
	shell(t, "cd /etc/postfix/tls && openssl ec -aes256 -passout pass:secret -in locked.example.org.key -out locked.key 2>/dev/null && cat locked.key locked.example.org.crt >"+locked)
	half, _, _ := issue(t, "half.example.org")
	shell(t, "head -c 500 "+half+" >"+half+".part && mv "+half+".part "+half)
	shell(t, "chmod 644 /etc/postfix/tls/locked.* /etc/postfix/tls/half.*")
	shell(t, "chmod 644 /etc/postfix/tls/first.* /etc/postfix/tls/second.*")
	for _, tt := range []struct {
		what    string
		pair    deploy.Pair
		refused string
	}{
		{"one file", combined(first), ""},
		{"two files", deploy.Pair{Certificate: certificate, Key: key}, ""},
		{"the key of another", deploy.Pair{Certificate: certificate, Key: otherKey}, "given key do not"},
		{"no key", combined(certificate), "key"},
		{"a file of root's", combined(secret), "reading file"},
		{"a key with a password", combined(locked), "TLS error"},
		{"a certificate that is cut off", combined(half), "TLS error"},
		{"no file", combined("/etc/postfix/tls/none.pem"), "TLS error"},
	} {
		tried, err := tryExim(t.Context(), []deploy.Pair{tt.pair})
		said, refused := errors.AsType[*Error](err)
		if !tried || refused != (tt.refused != "") || refused && (said.Kind() != kindRefused || !strings.Contains(said.Error(), tt.refused)) {
			t.Errorf("%s: tried %v, %v", tt.what, tried, err)
		}
	}
}

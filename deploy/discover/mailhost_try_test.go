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
	} {
		tried, err := tryExim(t.Context(), []deploy.Pair{tt.pair})
		said, refused := errors.AsType[*Error](err)
		if !tried || refused != (tt.refused != "") || refused && (said.Kind() != kindRefused || !strings.Contains(said.Error(), tt.refused)) {
			t.Errorf("%s: tried %v, %v", tt.what, tried, err)
		}
	}
}

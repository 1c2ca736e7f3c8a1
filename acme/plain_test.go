package acme

import (
	"strings"
	"testing"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestPlainDirectory: a CA on loopback without TLS, as behind a proxy, works from directory to certificate.
func TestPlainDirectory(t *testing.T) {
	l := lab.New(t, lab.Options{CA: ca.Options{SkipValidation: true, Plain: true}})
	store, err := state.Open(disk.Open(l.Path("plain")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.CA.DirectoryURL(), "http://127.0.0.1:") {
		t.Fatal(l.CA.DirectoryURL())
	}
	c := New(Settings{Directory: l.CA.DirectoryURL(), UserAgent: "mxcert/test"}, store)
	defer c.Close()
	leaf := issueFor(t, l, c, store)
	if _, err := c.RenewalInfo(t.Context(), leaf, state.RenewalInfo{}); err != nil {
		t.Error(err)
	}
}

package pass

import (
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A certificate with another name is another certificate with another key. That is said before it is ordered, once.
func TestRenamedCertificate(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	warns := func(c report.Certificate) bool {
		return slices.ContainsFunc(c.Warnings, func(w string) bool {
			return strings.HasPrefix(w, c.Name+" has the names of mx, ") && strings.Contains(w, "call the certificate mx again")
		})
	}
	if warns(h.pass(report.CodeOK, Options{})) {
		t.Error("the first certificate of a host is no other name")
	}
	h.edit("name: mx\n", "name: post\n")
	if !warns(h.pass(report.CodeOK, Options{DryRun: true})) || !warns(h.pass(report.CodeOK, Options{})) {
		t.Error("the new key is not told")
	}
	if warns(h.pass(report.CodeOK, Options{Force: true})) {
		t.Error("a renewal keeps the key, and warns")
	}
}

package issuer_test

import (
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
)

// What it makes is what a CA would deliver: it passes the checks of package bundle.
func TestIssue(t *testing.T) {
	t.Parallel()
	i := issuer.New(t)
	b := i.Issue(t, 90*24*time.Hour, "mx.example.org", "host7.example.org")
	if _, err := b.Check(bundle.Want{Names: []string{"mx.example.org", "host7.example.org"}, KeyType: bundle.EC256, At: time.Now()}); err != nil {
		t.Error(err)
	}
	if other := i.Issue(t, time.Hour, "mx.example.org"); other.Serial() == b.Serial() || other.SPKI() == b.SPKI() {
		t.Error("two certificates have the same serial number or key")
	}
	if expired := i.Issue(t, -time.Minute, "mx.example.org"); time.Now().Before(expired.NotAfter()) {
		t.Error("it has not expired")
	}
}

package deploy_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/deploy"
)

// planWith plans one job whose wanted names are those of the tests here.
func planWith(t *testing.T, roots *x509.CertPool, b *bundle.Bundle, target deploy.Target) deploy.Summary {
	t.Helper()
	p, err := deploy.Make("mx", []deploy.Job{{Bundle: b, Target: target, Names: []string{"mx.example.org", "host7.example.org"}, Roots: roots}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Summary()
}

// TestShortens: the end of what is live does not come nearer by accident, if senders trust it at all.
func TestShortens(t *testing.T) {
	const day = 24 * time.Hour
	ours, other, now := issuer.New(t), issuer.New(t), time.Now()
	names := []string{"mx.example.org", "host7.example.org"}
	next := ours.Issue(t, 90*day, names...)
	roots := x509.NewCertPool()
	roots.AddCert(next.Chain()[1])
	both := roots.Clone()
	both.AddCert(other.Issue(t, day, names...).Chain()[1])
	for _, tt := range []struct {
		what  string
		live  *bundle.Bundle
		roots *x509.CertPool
		want  bool
		fault string // why the live one does not stay, although it ends later
	}{
		{"ends later", ours.Issue(t, 91*day, "host7.example.org", "MX.example.org"), roots, true, ""},
		{"ends later, of the same CA, and no root is required", ours.Issue(t, 91*day, names...), nil, true, ""},
		{"ends later, of another CA of the roots", other.Issue(t, 36500*day, names...), both, true, ""},
		{"ends later, of another CA", other.Issue(t, 36500*day, names...), roots, false, "does not lead to a root in acme.roots_file"},
		{"ends later, of another CA, and no root is required", other.Issue(t, 36500*day, names...), nil, false, "this system does not trust it"},
		{"ends at the same time", ours.Issue(t, 90*day-time.Second, names...), roots, false, ""},
		{"ends earlier", ours.Issue(t, time.Hour, names...), roots, false, ""},
		{"other names", ours.Issue(t, 91*day, "mx.example.org"), roots, false, ""},
		{"self-signed", named(t, newKey(t, bundle.EC256), 1, names...), roots, false, ""},
	} {
		for layout, target := range map[string]deploy.Target{"pair": pair(t.TempDir()), "combined": combined(t.TempDir()), "directory": generation(t.TempDir()), "map": sni(t.TempDir(), "mx")} {
			if err := plan(t, tt.live, target).Apply(keepNothing); err != nil {
				t.Fatal(err)
			}
			s := planWith(t, tt.roots, next, target)
			err := s.Shortens(now)
			if (err != nil) != tt.want {
				t.Errorf("%s, %s: %v", tt.what, layout, err)
			}
			if tt.want {
				refused(t, err, target.Places(next)[0], "longer-lived", `from "test CA"`, "--shorter")
			}
			if fault := s.Longer != nil && s.Longer.Fault != ""; fault != (tt.fault != "") || fault && !strings.Contains(s.Longer.Fault, tt.fault) {
				t.Errorf("%s, %s: %+v", tt.what, layout, s.Longer)
			}
			if err := planWith(t, tt.roots, tt.live, target).Shortens(now); err != nil {
				t.Errorf("%s, %s: nothing changes, and: %v", tt.what, layout, err)
			}
		}
	}
	if err := planWith(t, roots, next, pair(t.TempDir())).Shortens(now); err != nil {
		t.Errorf("nothing was there: %v", err)
	}
}

// TestShortensTrustedFirst: a planted certificate that ends in a hundred years does not hide the trusted one at another place.
func TestShortensTrustedFirst(t *testing.T) {
	const day = 24 * time.Hour
	ours, names := issuer.New(t), []string{"mx.example.org", "host7.example.org"}
	next, live, planted := ours.Issue(t, 90*day, names...), ours.Issue(t, 91*day, names...), issuer.New(t).Issue(t, 36500*day, names...)
	for _, order := range [][2]*bundle.Bundle{{live, planted}, {planted, live}} {
		first, second := pair(t.TempDir()), pair(t.TempDir())
		apply(t, order[0], first)
		apply(t, order[1], second)
		s := plan(t, next, first, second).Summary()
		if err := s.Shortens(time.Now()); err == nil || s.Longer.Serial != live.Serial() {
			t.Errorf("%+v, %v", s.Longer, err)
		}
	}
}

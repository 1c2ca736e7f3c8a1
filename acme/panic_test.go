package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestPanics: what panics on the way to a certificate is an error, in goroutines too, and leaves no record behind.
func TestPanics(t *testing.T) {
	if err := inParallel(t.Context(), 3, func(i int) error { panic([]int{}[i:][0]) }); err == nil || !strings.Contains(err.Error(), "a fault inside mxcert") {
		t.Errorf("in parallel: %v", err)
	}
	l := lab.New(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	for _, in := range []string{"present", "progress", "clean up"} {
		store, err := state.Open(disk.Open(l.Path("panics " + in)))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(l.CA.HTTPSRoots())
		c := New(Settings{Directory: l.CA.DirectoryURL(), Roots: roots}, store)
		defer c.Close()
		lineage := store.Lineage("panics")
		resolver := resolve.New(l.NameServers())
		solver, err := dnsprovider.New("rfc2136", map[string]string{"DNSUPDATE_NAMESERVER": l.Primary.Address(), "DNSUPDATE_TSIG_KEY": lab.KeyName, "DNSUPDATE_TSIG_SECRET": l.Secret()}, resolver)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Issue(t.Context(), Request{Claim: Claim{Names: []string{"mx.example.org"}, KeyType: "ec256"}, Lineage: lineage,
			Accounts: Only("rfc2136", &panicking{Solver: solver, in: in}), Resolver: resolver, Require: resolve.All, Patience: 10 * time.Second, Progress: func(stage, _ string) {
				if in == "progress" && stage == "validation" {
					panic(in)
				}
			}})
		if e, ok := errors.AsType[*Error](err); in == "clean up" && err != nil { // a warning: the certificate is there
			t.Errorf("%s: %v", in, err)
		} else if in != "clean up" && (!ok || e.Kind() != "internal" || !e.Temporary() || !strings.Contains(e.Error(), in)) {
			t.Errorf("%s: %v", in, err)
		}
		left, err := lineage.Journal()
		if err != nil || (len(left) == 1) != (in == "clean up") {
			t.Errorf("%s: journal %v, %v", in, left, err)
		}
		if err := CleanUp(t.Context(), lineage, Only("rfc2136", solver), resolver, func(string, string) {}); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if left := l.World.Challenges(); len(left) != 0 {
			t.Errorf("%s: %v", in, left)
		}
	}
}

// panicking is a solver that does its work and then panics.
type panicking struct {
	dnsprovider.Solver
	in string
}

func (p *panicking) Present(ctx context.Context, records []dnsprovider.TXT) error {
	err := p.Solver.Present(ctx, records)
	if p.in == "present" {
		panic(p.in)
	}
	return err
}

func (p *panicking) CleanUp(ctx context.Context, records []dnsprovider.TXT) error {
	if p.in == "clean up" {
		panic(p.in)
	}
	return p.Solver.CleanUp(ctx, records)
}

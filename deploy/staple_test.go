package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// stapled is a target with an OCSP response.
func stapled(dir string) deploy.Target {
	t := pair(dir)
	t.Kind, t.OCSP = "exim", filepath.Join(dir, "ocsp.der")
	return t
}

// of stands for the response of a certificate: the package does not read it.
func of(b *bundle.Bundle) []byte { return []byte("response of " + b.Serial()) }

func staplePlan(t *testing.T, b *bundle.Bundle, staple []byte, target deploy.Target) *deploy.Plan {
	t.Helper()
	p, err := deploy.Make("mx", []deploy.Job{{Bundle: b, Target: target, Staple: staple}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inPlace reads the certificate's serial number and the response; "" if there is none.
func inPlace(t *testing.T, target deploy.Target) (serial, staple string) {
	t.Helper()
	chain, err := os.ReadFile(target.Certificate)
	if err != nil {
		return "", readOr(target.OCSP)
	}
	list, err := bundle.ParseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	return bundle.SerialOf(list[0]), readOr(target.OCSP)
}

func readOr(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

func wantInPlace(t *testing.T, target deploy.Target, b *bundle.Bundle, staple []byte) {
	t.Helper()
	if serial, has := inPlace(t, target); serial != b.Serial() || has != string(staple) {
		t.Errorf("in place are the certificate %s and %q, not %s and %q", serial, has, b.Serial(), staple)
	}
	if staple != nil {
		if served := readOr(target.OCSP + deploy.ServedSuffix); served != string(staple) {
			t.Errorf("the copy is %q, not %q", served, staple)
		}
	}
	noStaging(t, filepath.Dir(target.Certificate))
}

func TestStapleFollowsTheCertificate(t *testing.T) {
	target := stapled(t.TempDir())
	first, second := fresh(t, 1), fresh(t, 2)
	keep := func(path string, _ []byte) error {
		if path == target.OCSP {
			return errors.New("a response is not worth keeping")
		}
		return nil
	}
	step := func(b *bundle.Bundle, staple []byte, only bool) *deploy.Plan {
		t.Helper()
		p := staplePlan(t, b, staple, target)
		if p.Summary().StaplesOnly() != only {
			t.Errorf("StaplesOnly is %v: %+v", !only, p.Summary().Changes)
		}
		if err := p.Apply(keep); err != nil {
			t.Fatal(err)
		}
		wantInPlace(t, target, b, staple)
		if p := staplePlan(t, b, staple, target); !p.Summary().Empty() {
			t.Errorf("there is still something to do: %+v", p.Summary().Changes)
		}
		return p
	}
	step(first, of(first), false)
	if got := mode(t, target.OCSP); got != 0o640 {
		t.Errorf("the response has mode %o, not the one of the target", got)
	}
	before := inode(t, target.Certificate)
	step(first, []byte("a newer one of 01"), true)
	if inode(t, target.Certificate) != before {
		t.Error("a new response replaced the certificate, too")
	}
	p := step(second, of(second), false)
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, []byte("a newer one of 01"))
	p = step(second, nil, false) // the responder gave none
	if err := p.Undo(); err != nil {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, []byte("a newer one of 01"))
	step(first, nil, true) // it has expired
	p = step(second, of(second), false)
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, nil) // not that of the second
}

func TestNewStapleIsPublic(t *testing.T) {
	target := stapled(t.TempDir())
	target.Mode = 0
	b := fresh(t, 1)
	if err := staplePlan(t, b, of(b), target).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, target.OCSP); got != 0o644 {
		t.Errorf("the response has mode %o", got)
	}
	if got := mode(t, target.PrivateKey); got != 0o640 {
		t.Errorf("the key has mode %o", got)
	}
}

// TestStapleThatCannotBeWritten: the certificate does not change without its response.
func TestStapleThatCannotBeWritten(t *testing.T) {
	target := stapled(t.TempDir())
	first, second := fresh(t, 1), fresh(t, 2)
	if err := staplePlan(t, first, of(first), target).Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	p := staplePlan(t, second, of(second), target)
	refusal := errors.New("Exim does not like it")
	p.Try(func([]deploy.Target) error { return refusal })
	if err := p.Apply(keepNothing); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, of(first))
	elsewhere := target
	elsewhere.OCSP = filepath.Join(t.TempDir(), "none", "ocsp.der")
	if _, err := deploy.Make("mx", []deploy.Job{{Bundle: second, Target: elsewhere, Staple: of(second)}}, nil); err == nil {
		t.Error("a response in a directory that does not exist was planned")
	}
	if err := deploy.Check([]deploy.Target{elsewhere}, nil); err == nil {
		t.Error("the check does not find it")
	}
}

// TestApplyNewWritesTheStaple: Exim must find the file before it is told to read it.
func TestApplyNewWritesTheStaple(t *testing.T) {
	target := stapled(t.TempDir())
	b := fresh(t, 1)
	paths, err := staplePlan(t, b, of(b), target).ApplyNew()
	if err != nil || len(paths) != 4 {
		t.Fatal(paths, err)
	}
	wantInPlace(t, target, b, of(b))
}

// TestCopyOfTheStaple: Exim looks whether the response exists, and later opens the copy. So the copy stays when the response is taken away, and is
// that of the certificate whenever there is a response.
func TestCopyOfTheStaple(t *testing.T) {
	target := stapled(t.TempDir())
	first, second := fresh(t, 1), fresh(t, 2)
	apply := func(b *bundle.Bundle, staple []byte) *deploy.Plan {
		t.Helper()
		p := staplePlan(t, b, staple, target)
		if err := p.Apply(keepNothing); err != nil {
			t.Fatal(err)
		}
		wantInPlace(t, target, b, staple)
		return p
	}
	copied := target.OCSP + deploy.ServedSuffix
	apply(first, of(first))
	apply(first, nil) // it expires
	if readOr(copied) != string(of(first)) {
		t.Error("the copy went with the response")
	}
	p := apply(second, of(second))
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, nil)
	apply(first, of(first))
	p = apply(second, of(second))
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	wantInPlace(t, target, first, of(first))

	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	p = staplePlan(t, first, of(first), target)
	if s := p.Summary(); !s.StaplesOnly() || len(s.Changes) != 1 || s.Changes[0].Path != copied {
		t.Errorf("%+v", s.Changes)
	}
	apply(first, of(first))
}

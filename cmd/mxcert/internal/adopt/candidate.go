package adopt

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
)

// candidate is one certificate of the tree that was checked as an order checks what a CA delivers.
type candidate struct {
	Foreign
	bundle    *bundle.Bundle
	now       time.Time
	keyOnly   string // why it can never go into service, so that only its key is of use; "" if it can
	inService string // a file from which a mail server reads a certificate with its key now; "" if none is known
	trusted   bool   // it leads to a root of acme.roots_file, or without it to one that this system knows
}

// examine checks a certificate. The error says what is wrong in words about the other client's files.
func examine(f Foreign, roots *x509.CertPool, now time.Time) (*candidate, error) {
	if f.Err != nil {
		return nil, f.Err
	}
	b, err := bundle.Parse(f.Chain.PEM, f.Key.PEM)
	if err != nil {
		return nil, f.parseFault(err)
	}
	leaf := b.Leaf()
	switch {
	case len(leaf.DNSNames) == 0:
		return nil, f.fault(nil, "", "%s: the certificate is for no DNS name, which mail servers need", f.Chain.File)
	case now.Before(leaf.NotBefore):
		return nil, f.fault(nil, "check this host's clock (timedatectl)", "%s: the certificate is valid from %s only", f.Chain.File, stamp(leaf.NotBefore))
	}
	c := &candidate{Foreign: f, bundle: b, now: now}
	return c, c.checkChain(roots)
}

// checkChain checks the chain. If it lacks the issuer, and the other client keeps that in a file of its own, the chain gets it from there.
// Otherwise the leaf alone is kept, for its key: a pass then orders a new certificate, and does not deploy this one.
func (c *candidate) checkChain(roots *x509.CertPool) error {
	err := c.check(c.bundle, roots)
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*bundle.Fault](err); ok && f.ID == "usage" {
		return c.fault(err, "", "%s: %v", c.Chain.File, err)
	}
	if whole, issuerErr := bundle.Parse(append(c.bundle.LeafPEM(), c.Issuer.PEM...), c.Key.PEM); issuerErr == nil && len(whole.Chain()) > 1 && c.check(whole, roots) == nil {
		c.bundle = whole
		c.Notes = append(c.Notes, fmt.Sprintf("%s: %v; mxcert takes the issuer from %s", c.Chain.File, err, c.Issuer.File))
		return nil
	}
	return c.keepKey(fmt.Sprintf("%s: %v", c.Chain.File, err))
}

// keepKey keeps the leaf alone, for its key.
func (c *candidate) keepKey(why string) error {
	alone, err := bundle.Parse(c.bundle.LeafPEM(), c.Key.PEM)
	if err != nil {
		return c.parseFault(err)
	}
	c.bundle, c.trusted, c.keyOnly = alone, false, why
	return nil
}

// isRehearsal reports whether a certificate is from a staging service that the configuration does not name: by its directory, or by the name
// of its issuer.
func (c *candidate) isRehearsal(configured []string) bool {
	if slices.ContainsFunc(configured, authority.IsStaging) || slices.Contains(configured, c.Directory) {
		return false
	}
	issuer := c.bundle.Leaf().Issuer.CommonName
	return authority.IsStaging(c.Directory) || strings.HasPrefix(issuer, "(STAGING)") || strings.HasPrefix(issuer, "Fake LE ")
}

// check compares a bundle with what may be in service. An expired certificate is checked at the end of its life.
func (c *candidate) check(b *bundle.Bundle, roots *x509.CertPool) error {
	at := c.now
	if at.After(b.NotAfter()) {
		at = b.NotAfter()
	}
	warnings, err := b.Check(bundle.Want{Roots: roots, At: at})
	if c.trusted = err == nil && len(warnings) == 0; c.trusted {
		return nil
	}
	_, err = b.Check(bundle.Want{At: at})
	return err
}

// names lists the DNS names as the configuration writes them, in lower case.
func (c *candidate) names() []string {
	names := slices.Clone(c.bundle.Leaf().DNSNames)
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	return names
}

func (c *candidate) expired() bool { return c.now.After(c.bundle.NotAfter()) }

// compare orders candidates for the same names and key type, the best one first: one that may be in service, one whose key is in service
// (it must not change), one that senders trust (the other may come from a staging service), one that is valid for longest.
func (c *candidate) compare(other *candidate) int {
	return cmp.Or(
		rank(!c.expired(), !other.expired()),
		rank(c.keyOnly == "", other.keyOnly == ""),
		rank(c.inService != "", other.inService != ""),
		rank(c.trusted, other.trusted),
		other.bundle.NotAfter().Compare(c.bundle.NotAfter()),
		other.bundle.Leaf().NotBefore.Compare(c.bundle.Leaf().NotBefore),
	)
}

// rank puts what is true first.
func rank(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// life says until when a certificate is or was valid.
func life(b *bundle.Bundle, now time.Time) string {
	if now.After(b.NotAfter()) {
		return "expired " + stamp(b.NotAfter())
	}
	return "valid until " + stamp(b.NotAfter())
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

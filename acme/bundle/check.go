package bundle

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is what is wrong with a chain, a key or their combination. ID is one of malformed, foreign-block, too-many,
// wrong-key, key-type, names-missing, names-foreign, expired, not-yet-valid, chain-order, chain-incomplete, not-a-ca, usage,
// untrusted-root.
type Fault struct {
	ID      string
	Message string
}

// Error says what is wrong.
func (f *Fault) Error() string { return f.Message }

// Kind is the ID.
func (f *Fault) Kind() string { return f.ID }

// Hint says what an operator can do about it.
func (f *Fault) Hint() string {
	switch f.ID {
	case "expired", "not-yet-valid":
		return "check this host's clock (timedatectl): it must agree with the CA's"
	case "names-foreign":
		return "mxcert has thrown the certificate away; ask the CA why it certifies names that nobody asked for, or add them under domains if they are yours"
	case "untrusted-root":
		return "acme.roots_file must hold the root certificates of the CA that acme.directory names"
	}
	return "nothing was deployed; if it happens again, report it to the CA with the serial number"
}

func fault(id, format string, args ...any) *Fault {
	return &Fault{ID: id, Message: fmt.Sprintf(format, args...)}
}

// Want is what a certificate has to satisfy.
type Want struct {
	Names   []string       // DNS names that the SAN extension must contain, and no foreign ones; lower-case A-labels. If empty: any
	KeyType KeyType        // "" accepts any
	Roots   *x509.CertPool // roots; the chain must lead to one of them. If nil: the system's, and a failure is only a warning
	At      time.Time      // the moment at which it must be valid
}

// Check compares the bundle with what was wanted. The error is the first *Fault found. Warnings are not errors but worth a
// line: a root that this system does not know, if no root was required.
func (b *Bundle) Check(want Want) (warnings []string, err error) {
	checks := []func(Want) *Fault{b.checkKey, b.checkNames, b.checkForeign, b.checkValidity, b.checkUsage, b.checkOrder}
	for _, check := range checks {
		if f := check(want); f != nil {
			return nil, f
		}
	}
	return b.checkRoot(want)
}

func (b *Bundle) checkKey(want Want) *Fault {
	if want.KeyType != "" && b.keyType != want.KeyType {
		return fault("key-type", "the certificate has a key of type %s, %s was asked for", b.keyType, want.KeyType)
	}
	return nil
}

func (b *Bundle) checkNames(want Want) *Fault {
	have := b.names()
	var missing []string
	for _, name := range want.Names {
		if !slices.Contains(have, strings.ToLower(name)) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fault("names-missing", "the certificate lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

// mostForeign is how many foreign names a message shows.
const mostForeign = 5

// checkForeign refuses a name that nobody asked for (RFC 8555 section 7.4: the CA issues for the names of the order). A certificate for
// another host's name does not belong into a mail server.
func (b *Bundle) checkForeign(want Want) *Fault {
	if len(want.Names) == 0 {
		return nil
	}
	var foreign []string
	for _, name := range b.names() {
		if !slices.ContainsFunc(want.Names, func(asked string) bool { return belongs(name, strings.ToLower(asked)) }) {
			foreign = append(foreign, fmt.Sprintf("%.80q", name))
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	list := strings.Join(foreign[:min(len(foreign), mostForeign)], ", ")
	if more := len(foreign) - mostForeign; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fault("names-foreign", "the certificate is also for %s, which nobody asked for", list)
}

// belongs reports whether a name is the one that was asked for, is below it if that is a wildcard, or is one that commercial CAs add to it:
// the name with or without www, and the domain of a wildcard.
func belongs(name, asked string) bool {
	domain, wildcard := strings.CutPrefix(asked, "*.")
	if wildcard {
		_, above, _ := strings.Cut(name, ".")
		return name == domain || above == domain
	}
	return name == asked || name == "www."+asked || "www."+name == asked
}

// names returns the DNS names of the leaf in lower case.
func (b *Bundle) names() []string {
	names := make([]string, 0, len(b.Leaf().DNSNames))
	for _, name := range b.Leaf().DNSNames {
		names = append(names, strings.ToLower(name))
	}
	return names
}

// checkValidity checks every certificate: a chain is valid only as long as each of them.
func (b *Bundle) checkValidity(want Want) *Fault {
	for i, c := range b.chain {
		who := "the certificate"
		if i > 0 {
			who = fmt.Sprintf("the issuing certificate %.80q in the chain", c.Subject.CommonName)
		}
		switch {
		case want.At.After(c.NotAfter):
			return fault("expired", "%s expired at %s", who, stamp(c.NotAfter))
		case want.At.Before(c.NotBefore):
			return fault("not-yet-valid", "%s is valid from %s, but this host's clock says %s", who, stamp(c.NotBefore), stamp(want.At))
		}
	}
	return nil
}

func (b *Bundle) checkUsage(Want) *Fault {
	usages := b.Leaf().ExtKeyUsage
	if !slices.Contains(usages, x509.ExtKeyUsageServerAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		return fault("usage", "the certificate does not allow TLS server authentication (extended key usage)")
	}
	if b.Leaf().IsCA {
		return fault("usage", "the certificate is a CA certificate, not a server's")
	}
	return nil
}

// checkOrder requires that each certificate is signed by the next one (RFC 5246 section 7.4.2; RFC 8446 lets clients cope with
// disorder, but senders' libraries differ).
func (b *Bundle) checkOrder(Want) *Fault {
	for i := 1; i < len(b.chain); i++ {
		child, parent := b.chain[i-1], b.chain[i]
		if !parent.IsCA || !parent.BasicConstraintsValid {
			return fault("not-a-ca", "certificate %d of the chain (%.80q) is not a CA certificate", i+1, parent.Subject.CommonName)
		}
		if !bytes.Equal(child.RawIssuer, parent.RawSubject) || child.CheckSignatureFrom(parent) != nil {
			return fault("chain-order", "certificate %d of the chain (%.80q) did not sign the one before it", i+1, parent.Subject.CommonName)
		}
	}
	return nil
}

// checkRoot requires that the chain leads to a root. If no root was required, it accepts one that this system does not know,
// but then the chain must verify up to its own last certificate: usages, name constraints, path lengths.
func (b *Bundle) checkRoot(want Want) ([]string, error) {
	err := b.verify(want.Roots, want.At)
	if err == nil {
		return nil, nil
	}
	if len(b.chain) == 1 {
		return nil, b.alone()
	}
	if want.Roots != nil {
		return nil, fault("untrusted-root", "the chain does not lead to a root in acme.roots_file: %.300v", err)
	}
	top := b.chain[len(b.chain)-1]
	own := x509.NewCertPool()
	own.AddCert(top)
	if err := b.verify(own, want.At); err != nil {
		return nil, fault("chain-incomplete", "the chain does not verify: %.300v", err)
	}
	return []string{fmt.Sprintf("the chain leads to %.80q, which this system does not trust (a staging or private CA?)", top.Issuer.CommonName)}, nil
}

// clocksApart is by how much the clock of this host may be behind that of the CA, which need not date its certificates back.
const clocksApart = time.Hour

// Soon returns the beginning of the certificate's life if that is at most an hour after a moment, and otherwise the moment. At that time a
// certificate is judged that somebody whose clock is right has judged before: the clock of this host may be a little behind.
func (b *Bundle) Soon(at time.Time) time.Time {
	if begins := b.Leaf().NotBefore; at.Before(begins) && begins.Sub(at) <= clocksApart {
		return begins
	}
	return at
}

// Complete reports whether the certificate of the issuer came with the leaf, or one of roots (if roots is nil, one of the system's) signed
// the leaf itself. The error is a *Fault "chain-incomplete". Complete does not check a longer chain; [Bundle.Check] does. An expired
// certificate may be complete.
func (b *Bundle) Complete(roots *x509.CertPool, at time.Time) error {
	if at = b.Soon(at); at.After(b.NotAfter()) {
		at = b.NotAfter()
	}
	if len(b.chain) > 1 || b.verify(roots, at) == nil {
		return nil
	}
	return b.alone()
}

// alone is the fault of a leaf that came without its issuer.
func (b *Bundle) alone() *Fault {
	return fault("chain-incomplete", "the certificate came without the certificate of its issuer %.80q", b.Leaf().Issuer.CommonName)
}

// verify asks crypto/x509; if roots is nil, it uses the system's.
func (b *Bundle) verify(roots *x509.CertPool, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range b.chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := b.Leaf().Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

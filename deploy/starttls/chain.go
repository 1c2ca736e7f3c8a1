package starttls

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// maxChain is how many certificates are checked. Senders such as OpenSSL stop at ten as well.
const maxChain = 10

// Match reports whether the first served certificate is one of the wanted ones, byte for byte.
func Match(chain []*x509.Certificate, want ...*x509.Certificate) bool {
	return len(chain) > 0 && slices.ContainsFunc(want, chain[0].Equal)
}

// CheckChain judges a chain as a careful sender would at the time at. It uses only what the server sent, and fetches nothing. The leaf must
// cover every one of names (RFC 9525: only subject alternative names count, and a wildcard stands for the whole left-most label).
//
// If roots is nil, the system's roots decide. A complete chain to another root is then only a warning, because staging and private CAs have
// such a root. If roots is given, it is an error. Senders that check certificates refuse a server if a finding has severity error. With a
// warning most senders deliver.
//
// The IDs: no-certificate, certificate-expired, certificate-not-yet-valid, certificate-host-mismatch, certificate-not-trusted,
// certificate-self-signed, chain-incomplete, chain-invalid, chain-order, chain-duplicate, chain-unrelated, chain-root-sent,
// chain-expires-early, chain-too-long.
func CheckChain(sent []*x509.Certificate, names []string, roots *x509.CertPool, at time.Time) []finding.Finding {
	if len(sent) == 0 {
		return []finding.Finding{finding.New("no-certificate", finding.Error, "the server sent no certificate").Next("configure a certificate and its key in the mail server")}
	}
	c := &check{sent: sent, roots: roots, at: at}
	if len(sent) > maxChain {
		c.add("chain-too-long", finding.Error, "deploy the chain as the CA delivered it",
			"the server sent %d certificates; only the first %d are judged, and senders give up as well", len(sent), maxChain)
		c.sent = sent[:maxChain]
	}
	c.findPath()
	c.validity()
	c.names(names)
	c.order()
	c.trust()
	return c.findings
}

type check struct {
	sent     []*x509.Certificate
	path     []int // indices of sent: the leaf, its issuer, and so on, as far as it goes
	roots    *x509.CertPool
	at       time.Time
	findings []finding.Finding
}

func (c *check) add(id string, severity finding.Severity, hint, format string, a ...any) {
	c.findings = append(c.findings, finding.New(id, severity, format, a...).Next(hint))
}

// findPath follows the issuers among the certificates that were sent. It stops at a self-signed certificate.
func (c *check) findPath() {
	c.path = []int{0}
	for {
		last := c.sent[c.path[len(c.path)-1]]
		next := slices.IndexFunc(c.sent, func(candidate *x509.Certificate) bool { return issued(candidate, last) })
		if next < 0 || selfSigned(last) || slices.Contains(c.path, next) {
			return
		}
		c.path = append(c.path, next)
	}
}

// validity checks the dates of every sent certificate: against the time, and against the leaf's dates.
func (c *check) validity() {
	leaf := c.sent[0]
	for i, certificate := range c.sent {
		switch {
		case i > 0 && c.outdated(i) && c.spare(i):
			c.add("certificate-expired", finding.Warning, "leave it out: senders find a way without it, but some old ones stop at it",
				"certificate %s, which no path needs, is valid only from %s until %s", c.describe(i), stamp(certificate.NotBefore), stamp(certificate.NotAfter))
		case c.at.After(certificate.NotAfter):
			c.add("certificate-expired", finding.Error, "renew it and make the mail server load the new one: mxcert renew --now",
				"certificate %s expired at %s", c.describe(i), stamp(certificate.NotAfter))
		case c.at.Before(certificate.NotBefore):
			c.add("certificate-not-yet-valid", finding.Error, "compare this host's clock with another one (timedatectl)",
				"certificate %s is valid only from %s", c.describe(i), stamp(certificate.NotBefore))
		case i > 0 && certificate.IsCA && certificate.NotAfter.Before(leaf.NotAfter):
			c.add("chain-expires-early", finding.Warning, "renew before that day, or take another chain from the CA",
				"certificate %s expires at %s, before the leaf does (%s)", c.describe(i), stamp(certificate.NotAfter), stamp(leaf.NotAfter))
		}
	}
}

// spare reports whether senders find a path without a certificate that is out of its dates.
func (c *check) spare(i int) bool { return !slices.Contains(c.path, i) || c.verify(c.roots) == nil }

// names checks all reference identities, and reports all missing ones together.
func (c *check) names(names []string) {
	var missing []string
	for _, name := range names {
		if c.sent[0].VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		c.add("certificate-host-mismatch", finding.Error, "add the name to domains and renew, or serve the certificate that has it",
			"the certificate is not valid for %s; it has %s", enumerate(missing), enumerate(c.sent[0].DNSNames))
	}
}

// order checks three things: the leaf comes first, each certificate directly certifies the one before it and appears once (RFC 8446 section
// 4.4.2), and the server sent nothing else.
func (c *check) order() {
	if c.related(0) && !selfSigned(c.sent[0]) {
		c.add("chain-order", finding.Error, "put the leaf first and then each certificate's issuer, as the CA delivers them",
			"the first certificate that was sent is not the server's but the issuer's: %s", c.describe(0))
		return
	}
	if !slices.IsSorted(c.path) {
		c.add("chain-order", finding.Warning, "put the leaf first and then each certificate's issuer, as the CA delivers them",
			"the certificates were sent out of order; the order should be %s", c.inOrder())
	}
	for i := 1; i < len(c.sent); i++ {
		switch certificate := c.sent[i]; {
		case slices.ContainsFunc(c.sent[:i], certificate.Equal):
			c.add("chain-duplicate", finding.Warning, "send each certificate once", "certificate %s was sent twice", c.describe(i))
		case selfSigned(certificate):
			c.add("chain-root-sent", finding.Warning, "leave it out, unless a TLSA record with usage 2 names it",
				"root certificate %s was sent, which senders have or do not trust", c.describe(i))
		case !c.related(i):
			c.add("chain-unrelated", finding.Warning, "deploy the chain that the CA delivered with this certificate",
				"certificate %s did not issue any other that was sent", c.describe(i))
		}
	}
}

// related reports whether certificate i issued another one, as a cross-signed copy of an issuer on the path would.
func (c *check) related(i int) bool {
	return slices.ContainsFunc(c.sent, func(child *x509.Certificate) bool {
		return !child.Equal(c.sent[i]) && issued(c.sent[i], child)
	})
}

// trust builds the path with Go's verifier. It ignores the dates of the leaf, because validity checks them; so an expired certificate is
// not reported as untrusted as well.
func (c *check) trust() {
	err := c.verify(c.roots)
	var unknown x509.UnknownAuthorityError
	var system x509.SystemRootsError
	switch {
	case err == nil, slices.ContainsFunc(c.path[1:], c.outdated): // validity reports an outdated issuer
	case errors.As(err, &unknown), errors.As(err, &system):
		c.untrusted()
	default:
		c.invalid(err)
	}
}

func (c *check) verify(roots *x509.CertPool) error {
	leaf, at := c.sent[0], c.at
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	} else if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	pool := x509.NewCertPool()
	for _, certificate := range c.sent[1:] {
		pool.AddCert(certificate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: at})
	return err
}

func (c *check) invalid(err error) {
	c.add("chain-invalid", finding.Error, "deploy the chain that the CA delivered with this certificate", "the chain is not valid: %v", err)
}

// untrusted distinguishes a missing intermediate from an unknown root. It has only the chain, so it has to guess. No public CA issues from
// its root, so a leaf alone counts as incomplete. A chain with an issuer counts as complete if it would be valid with its last certificate
// trusted.
func (c *check) untrusted() {
	top := c.sent[c.path[len(c.path)-1]]
	switch {
	case len(c.path) == 1 && selfSigned(top):
		c.add("certificate-self-signed", finding.Error, "no certificate is configured, or it was never loaded (exim: MAIN_TLS_ENABLE and tls_certificate)",
			"the certificate %s is self-signed", c.describe(0))
		return
	case len(c.path) == 1:
		c.add("chain-incomplete", finding.Error, "make the mail server send the full chain (fullchain.pem, not cert.pem)",
			"the certificate of the issuer %s was not sent", quoted(top.Issuer.String()))
		return
	}
	anchor := x509.NewCertPool()
	anchor.AddCert(top)
	if err := c.verify(anchor); err != nil {
		c.invalid(err)
		return
	}
	c.unknownRoot(top)
}

func (c *check) unknownRoot(top *x509.Certificate) {
	severity := finding.Warning
	if c.roots != nil {
		severity = finding.Error
	}
	if selfSigned(top) {
		c.add("certificate-not-trusted", severity, "right for a staging or private CA; otherwise take a CA that senders trust",
			"the chain is complete, but its root %s is not trusted", quoted(top.Subject.String()))
		return
	}
	c.add("certificate-not-trusted", severity, "right for a staging or private CA; otherwise an intermediate is missing, or the CA is not one that senders trust",
		"the chain ends at %s, whose issuer %s is not a trusted root", quoted(top.Subject.String()), quoted(top.Issuer.String()))
}

func (c *check) outdated(i int) bool {
	return c.at.After(c.sent[i].NotAfter) || c.at.Before(c.sent[i].NotBefore)
}

// issued reports whether parent signed child. If Go refuses the algorithm (SHA-1), it counts as signed: this function asks only about the
// issuer, and the verifier refuses the algorithm anyway.
func issued(parent, child *x509.Certificate) bool {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
		return false
	}
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

func selfSigned(certificate *x509.Certificate) bool { return issued(certificate, certificate) }

// describe names a certificate by its position and subject.
func (c *check) describe(i int) string {
	subject := c.sent[i].Subject.String()
	if subject == "" { // some profiles have no common name
		subject = enumerate(c.sent[i].DNSNames)
	}
	return fmt.Sprintf("%d (%s)", i+1, quoted(subject))
}

func (c *check) inOrder() string {
	var places []string
	for _, i := range c.path {
		places = append(places, fmt.Sprint(i+1))
	}
	return strings.Join(places, ", ")
}

// enumerate lists names, which may be foreign text. It stops after five.
func enumerate(names []string) string {
	const most = 5
	var list []string
	for i, name := range names {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		list = append(list, finding.Quote(name, maxQuote))
	}
	if len(list) == 0 {
		return "no DNS name"
	}
	return strings.Join(list, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

package verdict

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

type certificate = x509.Certificate

// check is what one rule says about a certificate and its chain. The zero value means that all is right.
type check struct {
	kind    string // RFC 8460 type, if it is wrong
	reason  string // a clause about the certificate, e.g. "it expired at …"; "" if it is right
	purpose bool   // it is wrong because it is not for servers
	odd     string // why crypto/x509 cannot judge it as other libraries do; "" if it can
}

func (c check) ok() bool { return c.reason == "" && c.odd == "" }

func wrong(kind, format string, a ...any) check {
	return check{kind: kind, reason: fmt.Sprintf(format, a...)}
}

func strange(format string, a ...any) check { return check{odd: fmt.Sprintf(format, a...)} }

// mostCertificates is how many certificates of a chain are looked at. OpenSSL and GnuTLS have limits too, but other ones.
const mostCertificates = 20

// verify builds paths from the leaf to one of the roots, with the certificates that were sent and no others (RFC 5280 section 6).
func verify(sent []*certificate, roots *x509.CertPool, at time.Time) ([][]*certificate, error) {
	pool := x509.NewCertPool()
	for _, c := range sent[1:] {
		pool.AddCert(c)
	}
	return sent[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: at})
}

// path checks that the leaf leads to one of the roots at the time, and may be used by a server. A leaf that is itself a root is odd.
func path(sent []*certificate, roots *x509.CertPool, at time.Time) check {
	if len(sent) > mostCertificates {
		return strange("it sends %d certificates, and senders stop at different numbers", len(sent))
	}
	if usage := sent[0].KeyUsage; usage != 0 && usage&(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0 {
		return wrong(typeTrust, "its key usage does not permit TLS")
	}
	chains, err := verify(sent, roots, at)
	if err == nil {
		if !slices.ContainsFunc(chains, func(chain []*certificate) bool { return len(chain) > 1 }) {
			return strange("the certificate itself is one of the trusted roots, which libraries treat differently")
		}
		return check{}
	}
	timeless := ageless(sent)
	chains, err = verify(timeless, roots, at)
	if err == nil {
		return dates(sent, chains, at)
	}
	return explain(timeless, err)
}

// ageless copies certificates without their dates.
func ageless(list []*certificate) []*certificate {
	copies := make([]*certificate, len(list))
	for i, c := range list {
		twin := *c
		twin.NotBefore, twin.NotAfter = time.Time{}, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		copies[i] = &twin
	}
	return copies
}

// dates says which certificate of the path is out of its dates. The paths are those that are right but for the dates.
func dates(sent []*certificate, chains [][]*certificate, at time.Time) check {
	for i, c := range sent {
		if !slices.ContainsFunc(chains, func(chain []*certificate) bool { return slices.ContainsFunc(chain, c.Equal) }) {
			continue
		}
		which := "it"
		if i > 0 {
			which = "the certificate of its issuer " + subject(c)
		}
		switch {
		case at.After(c.NotAfter):
			return wrong(typeExpired, "%s expired at %s", which, stamp(c.NotAfter))
		case at.Before(c.NotBefore):
			return wrong(typeOther, "%s is valid only from %s", which, stamp(c.NotBefore))
		}
	}
	return strange("its paths are valid at different times")
}

// explain says why there is no path, or that only another library can say it.
func explain(sent []*certificate, err error) check {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &critical):
		return unhandled(sent)
	case errors.As(err, &invalid):
		return refused(invalid)
	case !errors.As(err, &unknown):
		return strange("%s", text(err))
	}
	if why := unreadable(sent); why != "" {
		return strange("%s", why)
	}
	return untrusted(sent)
}

// refused explains a path that leads to a root and breaks a rule.
func refused(err x509.CertificateInvalidError) check {
	switch err.Reason {
	case x509.Expired: // those that were sent have no dates here, so it is the root
		return strange("a trusted root that it leads to is out of its dates (%s), which libraries treat differently", subject(err.Cert))
	case x509.NotAuthorizedToSign:
		return wrong(typeTrust, "its issuer %s is not a CA", subject(err.Cert))
	case x509.TooManyIntermediates:
		return wrong(typeTrust, "its path is longer than %s permits", subject(err.Cert))
	case x509.IncompatibleUsage:
		c := wrong(typeTrust, "it, or an issuer of it, is not for TLS servers (extended key usage)")
		c.purpose = true
		return c
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName:
		if strings.Contains(err.Detail, "pars") || strings.Contains(err.Detail, "unsupported") || strings.Contains(err.Detail, "limit") {
			return strange("%s", text(err))
		}
		return wrong(typeTrust, "a CA that it leads to may not issue for its names (name constraints)")
	}
	return strange("%s", text(err))
}

// openSSLHandles are extensions that OpenSSL processes, and crypto/x509 not in every form (X509_supported_extension).
const openSSLHandles = " 2.5.29.30 2.5.29.31 2.5.29.32 2.5.29.33 2.5.29.36 2.5.29.54 1.3.6.1.5.5.7.1.7 1.3.6.1.5.5.7.1.8 1.3.6.1.5.5.7.1.14 1.3.6.1.5.5.7.48.1.5 2.16.840.1.113730.1.1 "

// unhandled judges critical extensions that crypto/x509 does not know (RFC 5280 section 4.2): nobody may accept those, unless he knows them.
func unhandled(sent []*certificate) check {
	for _, c := range sent {
		for _, id := range c.UnhandledCriticalExtensions {
			if !strings.Contains(openSSLHandles, " "+id.String()+" ") {
				return wrong(typeTrust, "a critical extension that no sender knows (%s) is in %s", id, subject(c))
			}
		}
	}
	return strange("a critical extension that crypto/x509 does not process is on its path")
}

// unreadable says what crypto/x509 cannot verify on the path from the leaf, although it was sent; "" if it can verify everything.
func unreadable(sent []*certificate) string {
	current := sent[0]
	for range sent {
		if current.SignatureAlgorithm == x509.UnknownSignatureAlgorithm || current.SignatureAlgorithm == x509.DSAWithSHA256 {
			return "crypto/x509 does not know the signature algorithm of " + subject(current)
		}
		next := slices.IndexFunc(sent, func(c *certificate) bool { return c != current && sameDN(c, current) })
		if next < 0 {
			return ""
		}
		parent := sent[next]
		switch {
		case parent.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm || parent.PublicKeyAlgorithm == x509.DSA:
			return "crypto/x509 does not know the kind of key of " + subject(parent)
		case string(parent.RawSubject) != string(current.RawIssuer):
			return "the name of the issuer " + subject(parent) + " is encoded in two ways"
		}
		current = parent
	}
	return ""
}

// sameDN reports whether the parent's name is the child's issuer for libraries that compare names without case and encoding.
func sameDN(parent, child *certificate) bool {
	return string(parent.RawSubject) == string(child.RawIssuer) ||
		strings.EqualFold(strings.Join(strings.Fields(parent.Subject.String()), " "), strings.Join(strings.Fields(child.Issuer.String()), " "))
}

// untrusted tells a missing intermediate from an unknown root. It has only the chain, and public CAs issue nothing from their root.
func untrusted(sent []*certificate) check {
	top := sent[0]
	for range sent {
		next := slices.IndexFunc(sent, func(c *certificate) bool { return c != top && issued(c, top) })
		if next < 0 {
			break
		}
		top = sent[next]
	}
	switch {
	case weakSignature(sent, top):
		return wrong(typeTrust, "a signature on its path uses an algorithm that senders refuse (MD5 or SHA-1)")
	case top == sent[0] && issued(top, top):
		return wrong(typeTrust, "it is self-signed")
	case top == sent[0]:
		return wrong(typeTrust, "the server does not send the certificate of its issuer %s", finding.Quoted(top.Issuer.String(), 100))
	}
	return wrong(typeTrust, "it leads to %s, which is no trusted root and was not issued by one", subject(top))
}

func weakSignature(sent []*certificate, top *certificate) bool {
	return slices.ContainsFunc(sent, func(c *certificate) bool {
		return (c == sent[0] || c != top) && slices.Contains([]x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1}, c.SignatureAlgorithm)
	})
}

// issued reports whether the parent signed the child, as far as crypto/x509 can tell.
func issued(parent, child *certificate) bool {
	if string(parent.RawSubject) != string(child.RawIssuer) {
		return false
	}
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

func text(err error) string { return finding.Quote(err.Error(), finding.MostQuoted) }

// subject names a certificate, which is foreign text.
func subject(c *certificate) string {
	if c == nil {
		return "a certificate"
	}
	name := c.Subject.String()
	if name == "" {
		name = strings.Join(c.DNSNames, ", ")
	}
	return finding.Quoted(name, 100)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// key identifies a chain.
func key(sent []*certificate) string {
	hash := sha256.New()
	for _, c := range sent {
		hash.Write(c.Raw)
	}
	return string(hash.Sum(nil))
}

package verdict

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"time"

	"mxcert/acme/resolve"
)

// anchors returns what a usage 2 record makes trust anchors of, for this chain: issuers that were sent, or the certificate or key that the
// record holds whole (RFC 7671 section 5.2). The leaf is no issuer. An anchor's own dates are not asked. odd says that libraries differ
// about an anchor; sent reports whether there is one among those that were sent.
func anchors(r resolve.TLSA, chain []*certificate) (list []*certificate, odd string, sent bool) {
	for _, c := range chain[1:] {
		if !matches(r, c) || c.Equal(chain[0]) {
			continue
		}
		switch {
		case c.BasicConstraintsValid && !c.IsCA: // not an issuer
		case !c.BasicConstraintsValid && c.KeyUsage&x509.KeyUsageCertSign == 0:
			odd = "the certificate " + subject(c) + " that a usage 2 record names does not say whether it is a CA"
		default:
			list, sent = append(list, ageless([]*certificate{c})[0]), true
		}
	}
	if len(list) == 0 && r.MatchingType == full {
		list = held(r, chain)
	}
	return list, odd, sent
}

// held makes anchors of a record that holds a certificate or a key whole. A key has no name: it may be that of any issuer.
func held(r resolve.TLSA, chain []*certificate) []*certificate {
	if r.Selector == wholeCertificate {
		c, err := x509.ParseCertificate(r.Data)
		if err != nil || c.Equal(chain[0]) || c.BasicConstraintsValid && !c.IsCA {
			return nil
		}
		return ageless([]*certificate{c})
	}
	public, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil {
		return nil
	}
	var list []*certificate
	for _, c := range chain {
		bare := &certificate{Version: 3, PublicKey: public, PublicKeyAlgorithm: algorithm(public), RawSubjectPublicKeyInfo: r.Data,
			RawSubject: c.RawIssuer, Subject: c.Issuer, BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1,
			NotBefore: time.Time{}, NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}
		bare.Raw = append(slices.Clone(r.Data), c.RawIssuer...) // a pool tells certificates apart by it
		list = append(list, bare)
	}
	return list
}

// below checks the path to one of the anchors.
func below(list, chain []*certificate, at time.Time) check { return path(chain, anchorPool(list), at) }

func anchorPool(list []*certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool
}

// algorithm is the kind of a public key.
func algorithm(public any) x509.PublicKeyAlgorithm {
	switch public.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

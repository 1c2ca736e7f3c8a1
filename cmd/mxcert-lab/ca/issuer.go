package ca

import (
	"crypto"
	"crypto/x509"
)

// Issuer returns the certificate and key that sign the leaves of the first chain, for an OCSP responder. The key is nil unless the CA issues
// with RSA keys: Pebble gives away no others.
func (c *CA) Issuer() (*x509.Certificate, crypto.Signer) {
	key := c.issuer.GetIntermediateKey(0)
	if key == nil {
		return c.issuer.GetIntermediateCert(0).Cert, nil
	}
	return c.issuer.GetIntermediateCert(0).Cert, key
}

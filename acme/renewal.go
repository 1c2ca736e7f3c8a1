package acme

import (
	"crypto/x509"
	"math/rand/v2"
	"time"
)

// shortLife is the lifetime below which a certificate is renewed at half of it instead of two thirds.
const shortLife = 10 * 24 * time.Hour

// RenewalTime draws the moment at which a certificate is to be renewed where the CA gives no renewal information: when
// a third of its lifetime is left, or half when it lives less than ten days, up to a fiftieth of the lifetime earlier,
// so that hosts installed together do not ask together. The caller stores it: each call draws anew.
//
// The moment is never in the first half of what was left of the certificate's life when it was issued: a CA may date it
// back, and a certificate that is due as soon as it is there would be ordered without end.
func RenewalTime(leaf *x509.Certificate, issued time.Time) time.Time {
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	left := lifetime / 3
	if lifetime < shortLife {
		left = lifetime / 2
	}
	early := time.Duration(rand.Float64() * float64(lifetime) / 50)
	at := leaf.NotAfter.Add(-left - early)
	if earliest := issued.Add(leaf.NotAfter.Sub(issued) / 2); at.Before(earliest) && issued.After(leaf.NotBefore) {
		at = earliest
	}
	return at.UTC().Truncate(time.Second)
}

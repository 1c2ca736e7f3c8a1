package wanted

import (
	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// Staples holds the OCSP responses that servers may send, by the serial number of the certificate.
type Staples map[string][]byte

// Stapled reports whether a server gets OCSP responses of the certificate from mxcert.
func (c Certificate) Stapled() bool { return c.StaplePath() != "" }

// StaplePath returns the path of the first OCSP response, for messages; "" if there is none.
func (c Certificate) StaplePath() string {
	for _, t := range c.Targets() {
		if t.OCSP != "" {
			return t.OCSP
		}
	}
	return ""
}

// ConditionalStaple returns Exim's setting that sends the response at a path if there is one, and works without one.
func ConditionalStaple(path string) string {
	return "tls_ocsp_file = ${if exists{" + path + "}{" + path + deploy.ServedSuffix + "}}"
}

// WithStaples returns the certificate with OCSP responses. They belong to the files, and are no part of the configuration.
func (c Certificate) WithStaples(staples Staples) Certificate {
	c.staples = staples
	return c
}

// StapleOf returns the OCSP response for a bundle; nil if there is none.
func (c Certificate) StapleOf(b *bundle.Bundle) []byte {
	if b == nil || len(c.staples) == 0 {
		return nil
	}
	return c.staples[b.Serial()]
}

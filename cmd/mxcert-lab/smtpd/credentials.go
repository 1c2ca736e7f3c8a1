package smtpd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
)

// credentials are loaded certificates, or the reason why they could not be loaded.
type credentials struct {
	certificates []tls.Certificate
	err          error
}

// load reads all pairs; one bad pair spoils all of them, as it does in Exim.
func load(pairs []Pair) *credentials {
	if len(pairs) == 0 {
		return &credentials{err: errors.New("no certificate is configured")}
	}
	loaded := new(credentials)
	for _, pair := range pairs {
		certificate, err := loadPair(pair)
		if err != nil {
			return &credentials{err: err}
		}
		loaded.certificates = append(loaded.certificates, certificate)
	}
	return loaded
}

func loadPair(pair Pair) (tls.Certificate, error) {
	chain, err := os.ReadFile(pair.Certificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load the certificate: %w", err)
	}
	key := chain
	if pair.PrivateKey != "" {
		if key, err = os.ReadFile(pair.PrivateKey); err != nil {
			return tls.Certificate{}, fmt.Errorf("load the private key: %w", err)
		}
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load %s: %v", pair.Certificate, err)
	}
	if pair.Staple != "" {
		if certificate.OCSPStaple, err = os.ReadFile(pair.Staple); err != nil && !errors.Is(err, os.ErrNotExist) {
			return tls.Certificate{}, fmt.Errorf("load the OCSP response: %w", err)
		}
	}
	return certificate, nil
}

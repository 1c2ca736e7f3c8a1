package starttls

import (
	"crypto/tls"
	"slices"
	"strings"
)

// tlsConfig verifies nothing on purpose: an opportunistic sender does not verify either, and CheckChain judges the chain.
func (s *session) tlsConfig() *tls.Config {
	config := &tls.Config{
		ServerName:         s.request.ServerName,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites("TLS_ECDHE_", "TLS_RSA_WITH_AES_"),
		// Mail servers offer these curves. A post-quantum key share would make the ClientHello larger than one segment, and some
		// middleboxes in front of port 25 cannot handle that.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
	}
	switch s.request.KeyType {
	case ECDSA:
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, suites("TLS_ECDHE_ECDSA_")
	case RSA:
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, suites("TLS_ECDHE_RSA_", "TLS_RSA_WITH_AES_")
	case TLS13:
		config.MinVersion = tls.VersionTLS13
	case OldTLS:
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	return config
}

// suites lists the cipher suites whose names begin with one of the prefixes. It includes those that Go counts as insecure, because senders
// offer them as well, and a server without forward secrecy is a server with TLS; but none with RC4 and 3DES, which senders do not offer.
func suites(prefixes ...string) (ids []uint16) {
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		old := strings.Contains(suite.Name, "RC4") || strings.Contains(suite.Name, "3DES")
		if !old && slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(suite.Name, prefix) }) {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

package mailhost

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"strings"
	"time"
)

// What every host has, what those with one server have, and what differs on a release, laid over the root tree before it boots.
//
//go:embed world world-exim world-postfix world-postfix-trixie
var worldFiles embed.FS

// world gathers the files of a new host: the embedded ones, and those with secrets, which are made for it.
func (h *Host) world() ([]File, error) {
	files, err := embedded("world")
	if err != nil {
		return nil, err
	}
	servers, err := embedded("world-" + string(h.server))
	if err != nil {
		return nil, err
	}
	if h.server == Postfix && h.release != Debian12 { // Dovecot 2.4 has other settings
		newer, err := embedded("world-postfix-" + string(h.release))
		if err != nil {
			return nil, err
		}
		servers = append(servers, newer...)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	h.TSIGSecret = base64.StdEncoding.EncodeToString(secret)
	pair, err := selfSigned("mx.example.org")
	if err != nil {
		return nil, err
	}
	files = append(append(files, servers...),
		File{Path: "/etc/machine-id", Content: []byte(randomHex(16) + "\n"), Mode: 0o444},
		File{Path: "/etc/bind/mxcert.key", Content: tsigKey("mxcert.", h.TSIGSecret), Mode: 0o640, Owner: "root:bind"})
	if h.server == Exim {
		return append(files,
			File{Path: "/etc/exim4/exim.crt", Content: pair.certificate, Mode: 0o640, Owner: "root:Debian-exim"},
			File{Path: "/etc/exim4/exim.key", Content: pair.key, Mode: 0o640, Owner: "root:Debian-exim"}), nil
	}
	for _, directory := range []string{"/etc/postfix/tls/", "/etc/dovecot/tls/"} {
		files = append(files,
			File{Path: directory + "mx.crt", Content: pair.certificate, Mode: 0o644},
			File{Path: directory + "mx.key", Content: pair.key, Mode: 0o600})
	}
	return files, nil
}

// embedded reads the files below a directory of this package's.
func embedded(directory string) (files []File, err error) {
	err = fs.WalkDir(worldFiles, directory, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := worldFiles.ReadFile(name)
		f := File{Path: strings.TrimPrefix(name, directory), Content: content, Mode: 0o644}
		switch {
		case strings.HasPrefix(f.Path, "/var/lib/bind/"):
			f.Owner = "bind:bind"
		case strings.HasPrefix(string(content), "#!"):
			f.Mode = 0o755
		}
		files = append(files, f)
		return err
	})
	return files, err
}

// tsigKey writes a key as named.conf and nsupdate -k read it.
func tsigKey(name, secret string) []byte {
	return fmt.Appendf(nil, "key %q {\n\talgorithm hmac-sha256;\n\tsecret %q;\n};\n", name, secret)
}

type keyPair struct{ certificate, key []byte }

// selfSigned makes a certificate as a fresh mail host has: valid for a year, trusted by nobody.
func selfSigned(name string) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return keyPair{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

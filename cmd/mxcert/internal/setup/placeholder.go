package setup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"mxcert/deploy"
)

// provide makes sure that the files exist before Exim is told to read them, because Exim answers 454 to every sender otherwise. It copies
// what Exim reads now. If there is nothing to copy, it makes a self-signed certificate, as Exim does in memory. The first renewal replaces
// it. made reports whether there were no files.
func (c *EximChange) provide(names []string) (made bool, err error) {
	if _, err := tls.LoadX509KeyPair(c.want.Certificate, c.want.Key); !errors.Is(err, fs.ErrNotExist) {
		return false, nil //nolint:nilerr // there are files already; Exim says whether they are good
	}
	certificate, key, err := readPair(c.exim.Pair)
	if err != nil {
		certificate, key, err = selfSigned(names)
	}
	if err != nil {
		return false, err
	}
	if c.want.Certificate == c.want.Key {
		return true, c.place(c.want.Key, string(key)+string(certificate))
	}
	return true, errors.Join(c.place(c.want.Key, string(key)), c.place(c.want.Certificate, string(certificate)))
}

// readPair returns the files of a pair, if they hold a certificate and its key.
func readPair(pair deploy.Pair) (certificate, key []byte, err error) {
	if _, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key); err != nil {
		return nil, nil, err
	}
	if key, err = os.ReadFile(pair.Key); err != nil || pair.Key == pair.Certificate {
		return nil, key, err
	}
	certificate, err = os.ReadFile(pair.Certificate)
	return certificate, key, err
}

// selfSigned makes a certificate that nobody trusts, and its key.
func selfSigned(names []string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// place writes a file that Exim's user may read and nobody else. Below the keys' directory it belongs to the owner and the group of that
// directory, as the service's own files do.
func (c *EximChange) place(path, text string) error {
	uid, gid := -1, -1
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("%w; make the directory first, and let Exim's user %s read it", err, c.exim.User)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && info.Mode()&fs.ModeSetgid != 0 {
		uid, gid = int(stat.Uid), int(stat.Gid)
	} else if u, err := user.Lookup(c.exim.User); err == nil {
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return err
		}
	}
	return WriteFile(path, text, 0o640, uid, gid)
}

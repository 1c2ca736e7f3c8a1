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
	"strings"
	"syscall"
	"time"

	"mxcert/deploy"
)

// provide makes sure that files exist before a server is told to read them, because it has no certificate for senders otherwise. It copies
// what the server reads now. If there is nothing to copy, it makes a self-signed certificate. The first renewal replaces it. user is the one
// who opens the files; "" for root. made are lines about new files.
func provide(want, now []deploy.Pair, names []string, user string) (made []string, err error) {
	for i, pair := range want {
		if _, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key); !errors.Is(err, fs.ErrNotExist) {
			continue //nolint:nilerr // there are files already; the server says whether they are good
		}
		what := "a copy of what the server reads now, until the first renewal"
		var certificate, key []byte
		err := fs.ErrNotExist
		if i < len(now) {
			certificate, key, err = readPair(now[i])
		}
		if err != nil {
			what = "a self-signed certificate, until the first renewal"
			certificate, key, err = selfSigned(names)
		}
		if err != nil {
			return made, err
		}
		if pair.Certificate == pair.Key {
			err = place(pair.Key, string(key)+string(certificate), user)
		} else {
			err = errors.Join(place(pair.Key, string(key), user), place(pair.Certificate, string(certificate), user))
		}
		if err != nil {
			return made, err
		}
		made = append(made, fmt.Sprintf("%s (%s)", pairsText([]deploy.Pair{pair}), what))
	}
	return made, nil
}

// readPair returns the certificates and the key of a pair of files, if they belong together.
func readPair(pair deploy.Pair) (certificate, key []byte, err error) {
	if _, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key); err != nil {
		return nil, nil, err
	}
	if certificate, err = os.ReadFile(pair.Certificate); err == nil {
		key, err = os.ReadFile(pair.Key)
	}
	return blocks(certificate, "CERTIFICATE"), blocks(key, "PRIVATE KEY"), err
}

// blocks returns the PEM blocks of a kind.
func blocks(text []byte, kind string) (list []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, kind) {
			list = append(list, pem.EncodeToMemory(block)...)
		}
	}
	return list
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

// place writes a file that the user of the server may read and nobody else. Below the keys' directory it belongs to the owner and the group of
// that directory, as the service's own files do.
func place(path, text, reader string) error {
	uid, gid := -1, -1
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("%w; make the directory first, and let the mail server's user read it", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && info.Mode()&fs.ModeSetgid != 0 {
		uid, gid = int(stat.Uid), int(stat.Gid)
	} else if u, err := user.Lookup(reader); err == nil {
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return err
		}
	}
	return WriteFile(path, text, 0o640, uid, gid)
}

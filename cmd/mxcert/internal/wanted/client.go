package wanted

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"mxcert/configs"
)

// client is the client certificate of this host for the store of its fleet. Something else renews it; so the files are read for each
// connection.
type client struct {
	certificate string // path
	privateKey  string // path, or a reference to a secret
	secrets     *secrets

	mu   sync.Mutex
	last *tls.Certificate // that was read and fitted together
}

// keep reads the files now, for a process that is about to lose the right to read them.
func (c *client) keep() {
	_, _ = c.read(time.Now()) // whoever needs them gets the error
}

// read returns the pair. If the files cannot be read, or do not fit together while something replaces them, it is the one that was read
// last.
func (c *client) read(now time.Time) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pair, err := c.load()
	if err == nil {
		c.last = pair
	}
	if c.last == nil {
		return nil, err
	}
	return c.last, c.valid(c.last.Leaf, now)
}

const (
	identitySetting    = "fleet.identity"
	rootsSetting       = "fleet.etcd.ca_file"
	certificateSetting = "fleet.etcd.certificate"
	keySetting         = "fleet.etcd.private_key"
)

// pairHint is the next step if there is no pair.
const pairHint = "put the client certificate of this host and its key where fleet.etcd.certificate and fleet.etcd.private_key point, readable by the user that renews"

func (c *client) load() (*tls.Certificate, error) {
	if what, open := openFile(fileOf(c.privateKey)); open {
		return nil, openError(keySetting, what)
	}
	certificate, err := readFile(c.certificate)
	if err != nil {
		return nil, &clientError{setting: certificateSetting, text: err.Error(), hint: pairHint, err: err}
	}
	key, err := c.key()
	if err != nil {
		return nil, &clientError{setting: keySetting, text: err.Error(), hint: pairHint, err: err}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, &clientError{setting: certificateSetting, text: fmt.Sprintf("%s and %s are no certificate with its key: %v", c.certificate, c.privateKey, err), hint: pairHint}
	}
	return &pair, nil
}

// fileOf is a setting that is a path or a reference, as a reference.
func fileOf(setting string) configs.Secret {
	if filepath.IsAbs(setting) {
		return configs.Secret("file:" + setting)
	}
	return configs.Secret(setting)
}

func (c *client) key() ([]byte, error) {
	if filepath.IsAbs(c.privateKey) {
		return readFile(c.privateKey)
	}
	text, err := c.secrets.read(configs.Secret(c.privateKey))
	return []byte(text), err
}

// fault returns which setting names a file at fault, and why. [CheckFleet] says that everybody can read the key.
func (c *client) fault() (setting string, err error) {
	_, err = c.load()
	e, ok := errors.AsType[*clientError](err)
	if _, open := openFile(fileOf(c.privateKey)); open || !ok {
		return "", nil
	}
	return e.setting, e
}

// valid says what is wrong with the time of a certificate.
func (c *client) valid(leaf *x509.Certificate, now time.Time) error {
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(leaf.NotAfter):
		return &clientError{setting: certificateSetting, text: fmt.Sprintf("%s (%s) expired at %s, so etcd refuses this host", c.certificate, leaf.Subject.CommonName, leaf.NotAfter.UTC().Format(day)),
			hint: "issue a new client certificate with the same common name, and write it to " + c.certificate + " and " + c.privateKey + "; mxcert reads it at its next connection"}
	case now.Before(leaf.NotBefore):
		return &clientError{setting: certificateSetting, text: fmt.Sprintf("%s is not valid before %s", c.certificate, leaf.NotBefore.UTC().Format(day)),
			hint: "this host's clock says " + now.UTC().Format(day) + ": set it right, or wait"}
	}
	return nil
}

// clientSoon is how long before its end a client certificate is worth a word, or a quarter of its life if that is less.
const clientSoon = 14 * 24 * time.Hour

// EndsSoon reports whether it is time to renew a client certificate.
func EndsSoon(leaf *x509.Certificate, now time.Time) bool {
	return leaf.NotAfter.Sub(now) < min(clientSoon, leaf.NotAfter.Sub(leaf.NotBefore)/4)
}

// RenewClient is the next step if a client certificate ends soon.
const RenewClient = "issue a new one with the same common name, and write it over the old one; mxcert reads it at its next connection"

// ClientValidity says if the client certificate of this host for the store of its fleet is not valid now, or soon will not be. It is no fault of the
// configuration. Whether the files can be read and fit together, [CheckFleet] and [Warnings] say.
func ClientValidity(config *configs.Config) []configs.Problem {
	f := fleetOf(config, &secrets{})
	if f == nil || f.client.certificate == "" {
		return nil
	}
	pair, err := f.client.load()
	if err != nil {
		return nil
	}
	if err := f.client.valid(pair.Leaf, time.Now()); err != nil {
		return []configs.Problem{problemAt(config, certificateSetting, err)}
	}
	if !EndsSoon(pair.Leaf, time.Now()) {
		return nil
	}
	return []configs.Problem{problemAt(config, certificateSetting, &clientError{setting: certificateSetting, hint: RenewClient,
		text: fmt.Sprintf("%s (%s) ends at %s", f.client.certificate, pair.Leaf.Subject.CommonName, pair.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))})}
}

// clientError is an error about a file or secret of the fleet, with the next step.
type clientError struct {
	setting, text, hint string
	err                 error
}

func (e *clientError) Error() string { return e.setting + ": " + e.text }

// Unwrap returns why a file could not be read.
func (e *clientError) Unwrap() error { return e.err }

// Hint returns the next step.
func (e *clientError) Hint() string { return e.hint }

// errPlain is returned if etcd is reached without certificates.
var errPlain = errors.New("etcd is reached by plain http: there is no client certificate")

// ClientCertificate returns the certificate by which etcd knows this host: the common name is the user. An error says what is wrong with
// it, also if it has expired.
func (f *Fleet) ClientCertificate() (*x509.Certificate, error) {
	if f.client.certificate == "" {
		return nil, errPlain
	}
	pair, err := f.client.read(time.Now())
	if pair == nil {
		return nil, err
	}
	return pair.Leaf, err
}

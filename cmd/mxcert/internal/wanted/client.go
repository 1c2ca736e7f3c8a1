package wanted

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// pairHint is the next step if there is no pair.
const pairHint = "put the client certificate of this host and its key where fleet.etcd.certificate and fleet.etcd.private_key point, readable by the user that renews"

func (c *client) load() (*tls.Certificate, error) {
	certificate, err := os.ReadFile(c.certificate)
	if err != nil {
		return nil, &clientError{text: fmt.Sprintf("fleet.etcd.certificate: %v", err), hint: pairHint, err: err}
	}
	key, err := c.key()
	if err != nil {
		return nil, &clientError{text: fmt.Sprintf("fleet.etcd.private_key: %v", err), hint: pairHint, err: err}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, &clientError{text: fmt.Sprintf("fleet.etcd.certificate: %s and %s are no certificate with its key: %v", c.certificate, c.privateKey, err), hint: pairHint}
	}
	return &pair, nil
}

func (c *client) key() ([]byte, error) {
	if filepath.IsAbs(c.privateKey) {
		return os.ReadFile(c.privateKey)
	}
	text, err := c.secrets.read(configs.Secret(c.privateKey))
	return []byte(text), err
}

// valid says what is wrong with the time of a certificate.
func (c *client) valid(leaf *x509.Certificate, now time.Time) error {
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(leaf.NotAfter):
		return &clientError{text: fmt.Sprintf("fleet.etcd.certificate: %s (%s) expired at %s, so the cluster refuses this host", c.certificate, leaf.Subject.CommonName, leaf.NotAfter.UTC().Format(day)),
			hint: "issue a new client certificate with the same common name, and write it to " + c.certificate + " and " + c.privateKey + "; mxcert reads it at its next connection"}
	case now.Before(leaf.NotBefore):
		return &clientError{text: fmt.Sprintf("fleet.etcd.certificate: %s is not valid before %s", c.certificate, leaf.NotBefore.UTC().Format(day)),
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

// ClientProblems finds out early what is wrong with the client certificate of this host for the store of its fleet: it cannot be read, does not
// fit its key, has expired or soon does. It is no fault of the configuration: you may check that before the files are in place, or as a user
// who may not read them. It leaves out a key that [UnreadableSecrets] lists.
func ClientProblems(config *configs.Config) []configs.Problem {
	f := fleetOf(config, &secrets{})
	if f == nil || f.client.certificate == "" {
		return nil
	}
	p := config.At("fleet.etcd.certificate")
	leaf, err := f.ClientCertificate()
	e, _ := errors.AsType[*clientError](err)
	switch {
	case err == nil && EndsSoon(leaf, time.Now()):
		p.Message = fmt.Sprintf("fleet.etcd.certificate: %s (%s) ends at %s", f.client.certificate, leaf.Subject.CommonName, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
		p.Hint = RenewClient
	case e == nil: // all is well
		return nil
	default:
		if strings.HasPrefix(e.text, "fleet.etcd.private_key: ") {
			if !filepath.IsAbs(f.client.privateKey) {
				return nil
			}
			p = config.At("fleet.etcd.private_key")
		}
		p.Message, p.Hint = e.text, e.hint
	}
	return []configs.Problem{p}
}

// clientError is an error with the next step.
type clientError struct {
	text, hint string
	err        error
}

func (e *clientError) Error() string { return e.text }

// Unwrap returns why a file could not be read.
func (e *clientError) Unwrap() error { return e.err }

// Hint returns the next step.
func (e *clientError) Hint() string { return e.hint }

// errPlain is returned if a cluster is reached without certificates.
var errPlain = errors.New("the cluster is reached by plain http: there is no client certificate")

// ClientCertificate returns the certificate by which the cluster knows this host: the common name is the user. An error says what is wrong with
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

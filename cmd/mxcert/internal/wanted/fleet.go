package wanted

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"
	"mxcert/configs"
)

// Fleet is what the configuration says of the fleet that this host is in. [Fleet.Identity] and [Fleet.TLS] read files and secrets, each time they
// are called; nothing here asks the network.
type Fleet struct {
	Name      string   // of the fleet
	Host      string   // of this host in it
	Endpoints []string // URLs of the members of etcd

	source  configs.Fleet
	client  *client
	secrets *secrets
}

func fleetOf(config *configs.Config, secrets *secrets) *Fleet {
	if !config.Fleet.On() {
		return nil
	}
	etcd := config.Fleet.Etcd
	return &Fleet{Name: config.Fleet.Name, Host: cmp.Or(config.Fleet.Host, shortHostName()), Endpoints: etcd.Endpoints, source: config.Fleet,
		client: &client{certificate: etcd.Certificate, privateKey: etcd.PrivateKey, secrets: secrets}, secrets: secrets}
}

// shortHostName is the first label of this host's name, in lower case; "" if it is no name of one host.
func shortHostName() string {
	name, _ := os.Hostname() // without a name, the configuration has to say it
	short, _, _ := strings.Cut(strings.ToLower(name), ".")
	if short == "localhost" || strings.Trim(short, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(short, "-") != short || len(short) > 63 {
		return ""
	}
	return short
}

// Fingerprint identifies the settings: another one is another membership.
func (f *Fleet) Fingerprint() string {
	return fingerprint("%s %+v %q", f.Host, f.source, string(f.source.Identity))
}

// Recipients returns whom the configuration trusts: all hosts, and the recovery key. It leaves out what is no recipient.
func (f *Fleet) Recipients() (list []seal.Recipient) {
	for _, text := range f.source.Recipients {
		if recipient, err := seal.ParseRecipient(text); err == nil {
			list = append(list, recipient)
		}
	}
	return list
}

// identityHint is the next step if the identity cannot be read.
const identityHint = "put the secret that age-keygen made for this host where fleet.identity points, readable by the user that renews; if it is lost, mxcert-fleet(7) says how a host comes back"

// Identity reads the secret of this host. It must be one of the recipients of the configuration, and nobody else's to read. The error names where it
// is, and what to do; it has no part of the secret.
func (f *Fleet) Identity() (*seal.Identity, error) {
	if what, open := openFile(f.source.Identity); open {
		return nil, openError(identitySetting, what)
	}
	identity, err := f.readIdentity()
	if err != nil {
		return nil, err
	}
	return identity, f.lists(identity)
}

func (f *Fleet) readIdentity() (*seal.Identity, error) {
	text, err := f.secrets.read(f.source.Identity)
	if err != nil {
		return nil, &clientError{setting: identitySetting, text: err.Error(), err: err, hint: cmp.Or(hintOf(err), identityHint)}
	}
	identity, err := seal.ParseIdentity(text)
	if err != nil {
		return nil, &clientError{setting: identitySetting, text: fmt.Sprintf("%s: %v", f.source.Identity, err), hint: "age-keygen makes one: a line that begins with AGE-SECRET-KEY-1"}
	}
	return identity, nil
}

// lists returns an error if the other hosts, which have the same recipients, do not know this identity.
func (f *Fleet) lists(identity *seal.Identity) error {
	own := string(identity.Recipient())
	if slices.Contains(f.source.Recipients, own) {
		return nil
	}
	return &clientError{setting: "fleet.recipients", text: fmt.Sprintf("the recipient of this host's identity (%s) is not among them", f.source.Identity),
		hint: "is it the identity of another host? If not, add this line on all hosts: - " + own}
}

// Settings returns what a member needs to know. It reads no file.
func (f *Fleet) Settings() (fleet.Settings, error) {
	s := fleet.Settings{Name: f.Name, Host: f.Host, Identify: f.Identity, Alone: f.source.Alone, Forget: f.source.Forget}
	for i, text := range f.source.Recipients {
		recipient, err := seal.ParseRecipient(text)
		if err != nil {
			return s, fmt.Errorf("fleet.recipients[%d]: %w", i, err)
		}
		s.Recipients = append(s.Recipients, recipient)
	}
	return s, nil
}

// rootsHint is the next step if the certificate of etcd's CA cannot be read.
const rootsHint = "name a PEM file with the certificate of the CA that issued those of etcd, readable by the user that renews, or leave fleet.etcd.ca_file out"

// TLS returns how to reach etcd: its roots, and the client certificate, which is read again for each connection. It is nil if etcd
// is reached by plain http, at a loopback address.
func (f *Fleet) TLS() (*tls.Config, error) {
	if len(f.Endpoints) > 0 && strings.HasPrefix(f.Endpoints[0], "http://") {
		return nil, nil //nolint:nilnil // nothing is encrypted
	}
	roots, _, err := readRoots(rootsSetting, f.source.Etcd.CAFile)
	if err != nil {
		return nil, &clientError{setting: rootsSetting, text: strings.TrimPrefix(err.Error(), rootsSetting+": "), hint: rootsHint, err: err}
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return f.client.read(time.Now())
	}}, nil
}

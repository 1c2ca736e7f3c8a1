package wanted

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"
	"mxcert/configs"
)

// Fleet is what the configuration says of the fleet that this host is in. [Fleet.Identity], [Fleet.Settings] and [Fleet.TLS] read files and
// secrets, each time they are called; nothing here asks the network.
type Fleet struct {
	Name      string   // of the fleet
	Host      string   // of this host in it
	Endpoints []string // URLs of the members of the etcd cluster

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

// Identity reads the secret of this host. The error names where it is, and what to do.
func (f *Fleet) Identity() (*seal.Identity, error) {
	text, err := f.secrets.read(f.source.Identity)
	if err != nil {
		return nil, &clientError{text: fmt.Sprintf("fleet.identity: %v", err), err: err,
			hint: "put the secret that age-keygen made for this host where fleet.identity points, readable by the user that renews; if it is lost, mxcert-fleet(7) says how a host comes back"}
	}
	identity, err := seal.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("fleet.identity: %s: %w", f.source.Identity, err)
	}
	return identity, nil
}

// Settings returns what a member needs to know. It reads the identity.
func (f *Fleet) Settings() (fleet.Settings, error) {
	identity, err := f.Identity()
	if err != nil {
		return fleet.Settings{}, err
	}
	s := fleet.Settings{Name: f.Name, Host: f.Host, Identity: identity, Alone: f.source.Alone, Forget: f.source.Forget}
	for i, text := range f.source.Recipients {
		recipient, err := seal.ParseRecipient(text)
		if err != nil {
			return s, fmt.Errorf("fleet.recipients[%d]: %w", i, err)
		}
		s.Recipients = append(s.Recipients, recipient)
	}
	return s, nil
}

// TLS returns how to reach the cluster: its roots, and the client certificate, which is read again for each connection. It is nil if the cluster
// is reached by plain http, at a loopback address.
func (f *Fleet) TLS() (*tls.Config, error) {
	if len(f.Endpoints) > 0 && strings.HasPrefix(f.Endpoints[0], "http://") {
		return nil, nil //nolint:nilnil // nothing is encrypted
	}
	roots, _, err := readRoots("fleet.etcd.ca_file", f.source.Etcd.CAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return f.client.read(time.Now())
	}}, nil
}

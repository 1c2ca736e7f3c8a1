// Package adopt takes over what other ACME clients left on a host: the trees of certbot, acme.sh, lego, dehydrated and uacme as bundles and accounts.
// It never changes a file of the other client and orders nothing: key, certificate and account stay the same.
//
// [Read] reads a tree; [Take] stores its certificates. If a tree has several certificates for the same names and the same type of key, Take
// stores the one in service, or else the one that is valid for longest, and it never puts an expired certificate in the place of a valid one: the key in service must
// not change (a TLSA record 3 1 1 names it). Hooks, paths and DNS settings become notes and a proposal for the configuration, on which a
// person decides. Texts of the other client are quoted in them.
//
// Not supported: writing the configuration, switching the other client off, trees of other clients.
package adopt

import (
	"errors"
	"fmt"
)

// Foreign is what another client has left of one certificate.
type Foreign struct {
	Client     string    // one of [Clients]
	Source     string    // directory or file it was read from
	Name       string    // as the other client calls it
	Chain, Key Text      // PEM
	Issuer     Text      // the certificates of the issuers alone, if the client keeps them; empty if not
	Directory  string    // URL of the CA's directory; "" if not known
	Host       string    // of the CA, with its port, if no more than that is known of it
	Account    Account   // at that CA
	Plugins    []string  // what the other client proves names with, by its own names: DNS plugins
	Proofs     []Proof   // by which plugin it proved each name, if it used several and that is known
	Installed  Installed // where the other client copies the certificate
	Hooks      []string  // proposals for hooks, in words
	Notes      []string  // for the operator
	Err        error     // why it cannot be taken over; nil if its files could be read
}

// Text is the content of a file.
type Text struct {
	File string
	PEM  []byte
}

// Installed says where the other client copies a certificate, so that a server reads it there. Each path may be "".
type Installed struct {
	Fullchain, Key string
	Unit           string // of systemd, which the other client reloads afterwards; "" if not known
}

// Account is the account of the other client. The zero Account means that no usable account was found.
type Account struct {
	URL, Email string
	Key        []byte // PEM
}

var errCompromised = errors.New("its key is one that mxcert revoked as compromised, and never uses again")

// withoutAccount is the note about an account that cannot be taken over.
func withoutAccount(err error) string {
	return fmt.Sprintf("no account is taken over (%v); mxcert registers a new one", err)
}

// Clients returns the names of the clients whose trees can be read.
func Clients() []string { return []string{certbot, acmeSh, lego, dehydrated, uacme} }

const (
	certbot    = "certbot"
	acmeSh     = "acme.sh"
	lego       = "lego"
	dehydrated = "dehydrated"
	uacme      = "uacme"
)

// UsualPath returns where a client usually keeps its tree.
func UsualPath(client string) string {
	return map[string]string{certbot: "/etc/letsencrypt", acmeSh: "/root/.acme.sh", lego: "/root/.lego", dehydrated: "/var/lib/dehydrated", uacme: "/etc/ssl/uacme"}[client]
}

// Read reads the files of a client, one of [Clients]. The list also has the certificates that cannot be taken over, with the reason. The
// error says why the tree as a whole cannot be read, or that it has no certificate. accounts is another directory of acme.sh that has its
// accounts; "" if it is the same or not known.
func Read(client, path, accounts string) ([]Foreign, error) {
	var found []Foreign
	var err error
	switch client {
	case certbot:
		found, err = fromCertbot(path)
	case acmeSh:
		found, err = fromAcmeSh(path, accounts)
	case dehydrated:
		found, err = fromDehydrated(path)
	case uacme:
		found, err = fromUacme(path)
	default:
		found, err = fromLego(path)
	}
	if err != nil {
		return nil, unreadable(client, path, err)
	}
	if len(found) == 0 {
		return nil, nothing(client, path)
	}
	for i := range found {
		found[i].Client = client
		if found[i].Err != nil {
			found[i].Err = broken(found[i], found[i].Err)
		}
	}
	return found, nil
}

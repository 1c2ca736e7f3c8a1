package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// vault writes values with secrets for the hosts of a fleet, and reads them.
type vault struct {
	fleet    string
	host     string // this one
	identity *seal.Identity
	trust    *trust
}

// place is what a value with a secret is for.
type place struct {
	kind kind
	name string // of the certificate; for an account the name of its folder
	key  bundle.KeyType
}

// String returns the key in the store.
func (p place) String() string {
	switch p.kind {
	case kindNext:
		return "certificate/" + p.name + "/next/" + string(p.key)
	case kindOrder:
		return "order/" + p.name + "/" + string(p.key)
	case kindAccount:
		return "account/" + p.name
	}
	return "certificate/" + p.name + "/" + string(p.key)
}

// described is what everybody who can read the store can read of a value with a secret. It is signed.
type described struct {
	Version    int            `json:"version"`
	Fleet      string         `json:"fleet"`
	Name       string         `json:"name"`
	Key        bundle.KeyType `json:"key_type,omitempty"`
	Generation int64          `json:"generation"`
	SPKI       string         `json:"spki"` // of the key in it
	Host       string         `json:"host"` // that wrote it
	Created    time.Time      `json:"created"`

	Serial    string    `json:"serial,omitempty"` // and the following: of a bundle
	NotAfter  time.Time `json:"not_after,omitzero"`
	Names     []string  `json:"names,omitempty"`
	Directory string    `json:"directory,omitempty"`
	Order     string    `json:"order,omitempty"`
	Chain     string    `json:"chain,omitempty"` // PEM

	Sealed []byte `json:"sealed"` // age: the JSON of inside
}

// inside is the secret, with what it is for: who signs something else around it is refused.
type inside struct {
	Version    int             `json:"version"`
	Kind       kind            `json:"kind"`
	Fleet      string          `json:"fleet"`
	Name       string          `json:"name"`
	Key        bundle.KeyType  `json:"key_type,omitempty"`
	Generation int64           `json:"generation"`
	SPKI       string          `json:"spki"`
	PEM        string          `json:"key,omitempty"`    // PKCS #8 PEM, of a bundle and of a next key
	Record     json.RawMessage `json:"record,omitempty"` // of an order and of an account
}

// write signs a description around a sealed secret.
func (v vault) write(p place, d described, s inside) ([]byte, error) {
	d.Version, d.Fleet, d.Name, d.Key, d.Host = version, v.fleet, p.name, p.key, v.host
	s.Version, s.Kind, s.Fleet, s.Name, s.Key, s.Generation, s.SPKI = version, p.kind, v.fleet, p.name, p.key, d.Generation, d.SPKI
	text, err := json.Marshal(s)
	if err == nil {
		d.Sealed, err = seal.Seal(text, v.trust.recipients())
	}
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", p, err)
	}
	return wrap(v.identity, p.kind, d)
}

// describe reads what a value with a secret says, without opening it. known is the newest generation that this host has seen in this place.
func (v vault) describe(value []byte, p place, known int64) (*described, seal.Recipient, error) {
	var d described
	signer, err := unwrap(value, p.String(), p.kind, v.trust.trusts, &d)
	switch {
	case err != nil:
		return nil, "", err
	case d.Fleet != v.fleet:
		return nil, "", refused(Swapped, p.String(), "it was written for the fleet %.80q", d.Fleet)
	case d.Name != p.name || d.Key != p.key:
		return nil, "", refused(Swapped, p.String(), "it was written for %.80q, key type %.20q", d.Name, string(d.Key))
	case d.Generation < 1:
		return nil, "", refused(Forged, p.String(), "its generation is %d", d.Generation)
	case d.Generation < known:
		return nil, "", refused(Replayed, p.String(), "it is of generation %d, and this host has seen generation %d", d.Generation, known)
	}
	return &d, signer, nil
}

// open reads a value and its secret, and proves that they are for each other and for this place.
func (v vault) open(value []byte, p place, known int64) (*described, *inside, error) {
	d, _, err := v.describe(value, p, known)
	if err != nil {
		return nil, nil, err
	}
	if v.identity == nil {
		return nil, nil, state.Unasked(errNoIdentity())
	}
	text, err := v.identity.Open(d.Sealed)
	if err != nil {
		return nil, nil, unopened(p, err)
	}
	var s inside
	if err := decode(text, p.String(), &s); err != nil {
		return nil, nil, err
	}
	if s.Kind != p.kind || s.Fleet != d.Fleet || s.Name != d.Name || s.Key != d.Key || s.Generation != d.Generation || s.SPKI != d.SPKI {
		return nil, nil, refused(Swapped, p.String(), "the secret in it was sealed for something else")
	}
	return d, &s, nil
}

// sealBundle writes a bundle of this host's disk as a generation of the fleet.
func (v vault) sealBundle(name string, generation int64, g state.Generation, b *bundle.Bundle) ([]byte, error) {
	return v.write(place{kindBundle, name, b.KeyType()}, described{
		Generation: generation, SPKI: b.SPKI(), Created: g.Created, Serial: b.Serial(), NotAfter: b.NotAfter(), Names: g.Names,
		Directory: g.Directory, Order: g.Order, Chain: string(b.FullchainPEM()),
	}, inside{PEM: string(b.KeyPEM())})
}

// openBundle reads a bundle: all that it says of itself is what the certificate says.
func (v vault) openBundle(value []byte, name string, key bundle.KeyType, known int64) (*Shared, error) {
	p := place{kindBundle, name, key}
	d, s, err := v.open(value, p, known)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Parse([]byte(d.Chain), []byte(s.PEM))
	if err != nil {
		return nil, refused(Forged, p.String(), "the certificate and the key in it: %.200v", err)
	}
	if err := d.matches(p, b); err != nil {
		return nil, err
	}
	return &Shared{
		Bundle: b, Generation: d.Generation, Host: d.Host, Names: d.Names, Directory: d.Directory, Order: d.Order, Created: d.Created,
	}, nil
}

// matches compares what a description says with the certificate.
func (d *described) matches(p place, b *bundle.Bundle) error {
	other := ""
	switch {
	case b.KeyType() != d.Key:
		other = "key type"
	case b.SPKI() != d.SPKI:
		other = "SPKI"
	case b.Serial() != d.Serial:
		other = "serial number"
	case !b.NotAfter().Equal(d.NotAfter):
		other = "end"
	}
	if other != "" {
		return refused(Forged, p.String(), "its %s is not that of the certificate in it", other)
	}
	for _, name := range d.Names {
		if !slices.ContainsFunc(b.Leaf().DNSNames, func(n string) bool { return strings.EqualFold(n, name) }) {
			return refused(Forged, p.String(), "it says %.80q, which is not in the certificate", name)
		}
	}
	return nil
}

package fleet

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// sealNext writes the next key of a rollover (PEM), which is for the certificate after the given generation.
func (v vault) sealNext(name string, key bundle.KeyType, generation int64, pem []byte, at time.Time) ([]byte, error) {
	spki, err := spkiOf(pem)
	if err != nil {
		return nil, err
	}
	return v.write(place{kindNext, name, key}, described{Generation: generation, SPKI: spki, Created: at}, inside{PEM: string(pem)})
}

// openNext reads a next key. It returns it as PEM, with its SPKI and generation.
func (v vault) openNext(value []byte, name string, key bundle.KeyType, known int64) (pem []byte, spki string, generation int64, err error) {
	p := place{kindNext, name, key}
	d, s, err := v.open(value, p, known)
	if err != nil {
		return nil, "", 0, err
	}
	signer, err := bundle.ParseKey([]byte(s.PEM))
	if err != nil {
		return nil, "", 0, refused(Forged, p.String(), "the key in it cannot be read")
	}
	if found, err := bundle.TypeOf(signer.Public()); err != nil || found != key {
		return nil, "", 0, refused(Forged, p.String(), "the key in it is not of the type %s", key)
	}
	if found, err := spkiOf([]byte(s.PEM)); err != nil || found != d.SPKI {
		return nil, "", 0, refused(Forged, p.String(), "its SPKI is not that of the key in it")
	}
	return []byte(s.PEM), d.SPKI, d.Generation, nil
}

// sealOrder writes an order in flight that is to become a generation.
func (v vault) sealOrder(name string, generation int64, o state.Order) ([]byte, error) {
	o.Version = max(o.Version, version)
	return v.record(place{kindOrder, name, o.KeyType}, generation, o.Key, o.Created, o)
}

// openOrder reads an order in flight.
func (v vault) openOrder(value []byte, name string, key bundle.KeyType, known int64) (o state.Order, generation int64, host string, err error) {
	p := place{kindOrder, name, key}
	d, err := v.openRecord(value, p, known, &o, func() string { return o.Key })
	if err != nil {
		return state.Order{}, 0, "", err
	}
	if o.KeyType != key {
		return state.Order{}, 0, "", refused(Swapped, p.String(), "the order in it is for the key type %.20q", string(o.KeyType))
	}
	return o, d.Generation, d.Host, nil
}

// sealAccount writes an account. ca is the name of its folder; the generation grows with each change.
func (v vault) sealAccount(ca string, generation int64, a state.Account) ([]byte, error) {
	a.Version = max(a.Version, version)
	return v.record(place{kind: kindAccount, name: ca}, generation, a.Key, a.Created, a)
}

// openAccount reads an account.
func (v vault) openAccount(value []byte, ca string, known int64) (a state.Account, generation int64, err error) {
	d, err := v.openRecord(value, place{kind: kindAccount, name: ca}, known, &a, func() string { return a.Key })
	if err != nil {
		return state.Account{}, 0, err
	}
	return a, d.Generation, nil
}

// record seals a record that has a key of its own.
func (v vault) record(p place, generation int64, pem string, at time.Time, record any) ([]byte, error) {
	spki, err := spkiOf([]byte(pem))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	return v.write(p, described{Generation: generation, SPKI: spki, Created: at}, inside{Record: text})
}

// openRecord reads a record; pem returns its key after it was read.
func (v vault) openRecord(value []byte, p place, known int64, record any, pem func() string) (*described, error) {
	d, s, err := v.open(value, p, known)
	if err != nil {
		return nil, err
	}
	if err := decode(s.Record, p.String(), record); err != nil {
		return nil, err
	}
	if spki, err := spkiOf([]byte(pem())); err != nil || spki != d.SPKI {
		return nil, refused(Forged, p.String(), "its SPKI is not that of the key in it")
	}
	return d, nil
}

// spkiOf names the public half of a private key in PEM.
func spkiOf(pem []byte) (string, error) {
	key, err := bundle.ParseKey(pem)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", errors.New("the public half of a key cannot be encoded")
	}
	return bundle.SPKIOf(der), nil
}

// unopened is the refusal for a secret that does not open.
func unopened(p place, err error) *Refused {
	if errors.Is(err, seal.ErrNotForUs) {
		return refused(NotForThisHost, p.String(), "the secret in it is not encrypted to this host's recipient")
	}
	return refused(Truncated, p.String(), "the secret in it is damaged")
}

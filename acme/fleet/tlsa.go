package fleet

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// Keys is what hosts share about the keys of one certificate and its TLSA records:
//
//	certificate/NAME/tlsa        what they remember together; only package pass knows what is in it
//	certificate/NAME/keys/HOST   which keys a host serves and has, as it says itself
//	certificate/NAME/next/KEY    the next key of a rollover
//
// Its methods ask the store, and wait for it as long as the store has patience. So they are called only when a record or a key is to change: a
// renewal with the same key needs none of them. If the store cannot be asked, the errors are [state.ErrAway].
type Keys struct {
	name     string // of the certificate
	fleet    string
	host     string
	store    state.Shared
	identity *seal.Identity
	trusted  func() []seal.Recipient
	ask      func(context.Context, func(context.Context) error) error
	forgets  time.Duration
}

// Keys returns what hosts share about the keys of a certificate.
func (m *Member) Keys(_ string) *Keys { return nil }

// NewKeys returns what hosts share about a certificate. trusted lists the recipients that this host trusts now; ask, if it is not nil, calls a
// function that asks the store.
func NewKeys(name string, set Settings, store state.Shared, trusted func() []seal.Recipient, ask func(context.Context, func(context.Context) error) error) *Keys {
	if ask == nil {
		ask = func(ctx context.Context, f func(context.Context) error) error { return f(ctx) }
	}
	return &Keys{name: name, fleet: set.Name, host: set.Host, store: store, identity: set.Identity, trusted: trusted, ask: ask, forgets: set.Forget}
}

// Forget is how long a host that is away counts.
func (k *Keys) Forget() time.Duration { return cmp.Or(k.forgets, 14*24*time.Hour) }

// Sight is what the store has at one moment.
type Sight struct {
	Together  []byte // what hosts remember together; nil if there is nothing that can be believed
	Hosts     []HostSays
	Next      map[bundle.KeyType]NextKey
	Forgotten map[string]time.Time // the hosts that an operator has forgotten, and when
	Refused   []error              // values that are not believed
}

// HostSays is what one host says.
type HostSays struct {
	Host   string
	Alive  bool   // it is at work
	Member bool   // it is not forgotten, by the store's clock
	Text   []byte // nil if there is nothing that can be believed
}

// NextKey is a next key that hosts share.
type NextKey struct {
	SPKI       string
	Generation int64 // grows with each next key of this type
	PEM        []byte
}

// The places of these values.
func (k *Keys) together() string        { return "certificate/" + k.name + "/tlsa" }
func (k *Keys) says(host string) string { return "certificate/" + k.name + "/keys/" + host }
func (k *Keys) next(key bundle.KeyType) string {
	return "certificate/" + k.name + "/next/" + string(key)
}

// togetherValue is the value of the place together.
type togetherValue struct {
	Forgotten map[string]time.Time `json:"forgotten,omitempty"`
	Text      json.RawMessage      `json:"tlsa,omitempty"`
}

// nextValue is the value of a next key. What it is for is also inside of what is sealed.
type nextValue struct {
	Generation int64  `json:"generation"`
	SPKI       string `json:"spki"`
	Host       string `json:"host"`
	Sealed     []byte `json:"sealed"`
}

type nextSecret struct {
	Fleet      string `json:"fleet"`
	Place      string `json:"place"`
	Generation int64  `json:"generation"`
	SPKI       string `json:"spki"`
	Key        string `json:"key"` // PEM
}

// Look returns what the store has now about the keys of the given types.
func (k *Keys) Look(ctx context.Context, types []bundle.KeyType) (*Sight, error) {
	s := &Sight{Next: map[bundle.KeyType]NextKey{}}
	err := k.ask(ctx, func(ctx context.Context) error {
		places := []string{k.together()}
		for _, key := range types {
			places = append(places, k.next(key))
		}
		values, err := k.store.Many(ctx, places)
		if err != nil {
			return err
		}
		if err := k.readTogether(s, values[0]); err != nil {
			return err
		}
		for i, key := range types {
			k.readNext(s, key, values[i+1])
		}
		return k.readHosts(ctx, s)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (k *Keys) readTogether(s *Sight, v state.Versioned) error {
	if v.Revision == 0 {
		return nil
	}
	var r togetherValue
	err := k.open(k.together(), v.Value, &r)
	if errors.Is(err, errLaterTLSA) {
		return err
	}
	if err != nil {
		s.Refused = append(s.Refused, err)
		return nil
	}
	s.Together, s.Forgotten = r.Text, r.Forgotten
	return nil
}

func (k *Keys) readNext(s *Sight, key bundle.KeyType, v state.Versioned) {
	if v.Revision == 0 {
		return
	}
	next, err := k.openNext(key, v.Value)
	if err != nil {
		s.Refused = append(s.Refused, err)
		return
	}
	s.Next[key] = next
}

// openNext proves that a next key is what it says, and for this place.
func (k *Keys) openNext(key bundle.KeyType, value []byte) (NextKey, error) {
	place := k.next(key)
	var n nextValue
	if err := k.open(place, value, &n); err != nil {
		return NextKey{}, err
	}
	text, err := k.identity.Open(n.Sealed)
	if err != nil {
		return NextKey{}, fmt.Errorf("%s in the store of the fleet: %w", place, err)
	}
	var in nextSecret
	if err := json.Unmarshal(text, &in); err != nil || in.Fleet != k.fleet || in.Place != place || in.Generation != n.Generation || in.SPKI != n.SPKI || n.Generation < 1 {
		return NextKey{}, fmt.Errorf("%s in the store of the fleet: the key in it was sealed for another place", place)
	}
	spki, err := spkiOfKey(key, []byte(in.Key))
	if err != nil || spki != n.SPKI {
		return NextKey{}, fmt.Errorf("%s in the store of the fleet: the key in it is another one", place)
	}
	return NextKey{SPKI: n.SPKI, Generation: n.Generation, PEM: []byte(in.Key)}, nil
}

// readHosts reads what hosts say, and whether they are at work.
func (k *Keys) readHosts(ctx context.Context, s *Sight) error {
	values, _, err := k.store.Below(ctx, "certificate/"+k.name+"/keys")
	if err != nil {
		return err
	}
	var places []string
	for _, v := range values {
		host := path.Base(v.Key)
		says := HostSays{Host: host}
		var text json.RawMessage
		switch err := k.open(k.says(host), v.Value, &text); {
		case errors.Is(err, errLaterTLSA):
			return err
		case err != nil:
			s.Refused = append(s.Refused, err)
		default:
			says.Text = text
		}
		s.Hosts = append(s.Hosts, says)
		places = append(places, "host/"+host+"/alive", "host/"+host+"/seen")
	}
	for start := 0; start < len(places); start += atOnce {
		some := places[start:min(start+atOnce, len(places))]
		values, err := k.store.Many(ctx, some)
		if err != nil {
			return err
		}
		for i, v := range values {
			h := &s.Hosts[(start+i)/2]
			if i%2 == 0 {
				h.Alive = v.Revision > 0
			} else {
				h.Member = v.Revision > 0
			}
		}
	}
	return nil
}

// atOnce is how many values are asked for in one call.
const atOnce = 100

// Change changes what hosts remember together. change gets the text (nil if there is none that can be believed) and the hosts that an operator
// has forgotten, and returns the new text; nil for no change. It is called again if somebody else was faster.
func (k *Keys) Change(ctx context.Context, change func(text []byte, forgotten map[string]time.Time) ([]byte, error)) error {
	return k.ask(ctx, func(ctx context.Context) error {
		return k.swap(ctx, func(r *togetherValue) (bool, error) {
			text, err := change(r.Text, r.Forgotten)
			if err != nil || text == nil {
				return false, err
			}
			r.Text = text
			return true, nil
		})
	})
}

func (k *Keys) swap(ctx context.Context, change func(*togetherValue) (bool, error)) error {
	for {
		v, err := k.store.Get(ctx, k.together())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var r togetherValue
		if v.Revision > 0 {
			if err := k.open(k.together(), v.Value, &r); errors.Is(err, errLaterTLSA) {
				return err
			} else if err != nil {
				r = togetherValue{} // what hosts have on their disks takes its place
			}
		}
		changed, err := change(&r)
		if err != nil || !changed {
			return err
		}
		value, err := k.close(k.together(), r)
		if err != nil {
			return err
		}
		_, err = k.store.Swap(ctx, k.together(), v.Revision, value)
		if !errors.Is(err, state.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

// Say replaces what this host says.
func (k *Keys) Say(ctx context.Context, text []byte) error {
	value, err := k.close(k.says(k.host), json.RawMessage(text))
	if err != nil {
		return err
	}
	return k.ask(ctx, func(context.Context) error { return k.store.Replace(k.says(k.host), value) })
}

// Host is the name of this host.
func (k *Keys) Host() string { return k.host }

// Offer gives all hosts a next key that is on this host's disk, in the place of one of an earlier generation. The error is [state.ErrChanged]
// if there is one of the same or a later generation: then look again.
func (k *Keys) Offer(ctx context.Context, key bundle.KeyType, n NextKey) error {
	place := k.next(key)
	secret, err := json.Marshal(nextSecret{k.fleet, place, n.Generation, n.SPKI, string(n.PEM)})
	if err != nil {
		return err
	}
	sealed, err := seal.Seal(secret, k.trusted())
	if err != nil {
		return fmt.Errorf("the next key could not be encrypted for the fleet: %w", err)
	}
	value, err := k.close(place, nextValue{n.Generation, n.SPKI, k.host, sealed})
	if err != nil {
		return err
	}
	return k.ask(ctx, func(ctx context.Context) error {
		v, err := k.store.Get(ctx, place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if v.Revision > 0 {
			if before, err := k.openNext(key, v.Value); err == nil && before.Generation >= n.Generation {
				return fmt.Errorf("the fleet has another next key: %w", state.ErrChanged)
			} else if errors.Is(err, errLaterTLSA) {
				return err
			}
		}
		_, err = k.store.Swap(ctx, place, v.Revision, value)
		return err
	})
}

// forget notes that an operator has forgotten a host, and removes what it said.
func (k *Keys) forget(ctx context.Context, host string, at time.Time) error {
	_, err := k.store.Get(ctx, k.says(host))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := err == nil
	err = k.swap(ctx, func(r *togetherValue) (bool, error) {
		if !known && r.Text == nil {
			return false, nil // nobody looks after records of this certificate
		}
		if r.Forgotten == nil {
			r.Forgotten = map[string]time.Time{}
		}
		r.Forgotten[host] = at.UTC()
		return true, nil
	})
	if err != nil {
		return err
	}
	return k.store.Remove(k.says(host))
}

// errLaterTLSA says that an older mxcert must not touch a value.
var errLaterTLSA = errors.New("a later mxcert wrote it: install that version on this host as well")

// signedText is a value with a signature. The signature is for its place, too.
type signedText struct {
	Version   int            `json:"version"`
	Payload   string         `json:"payload"`
	Signer    seal.Recipient `json:"signer"`
	Signature []byte         `json:"signature"`
}

func (k *Keys) purpose(place string) string { return "mxcert keys v1 " + k.fleet + " " + place }

func (k *Keys) close(place string, payload any) ([]byte, error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signedText{1, string(text), k.identity.Recipient(), k.identity.Sign(k.purpose(place), text)})
}

func (k *Keys) open(place string, value []byte, payload any) error {
	var s signedText
	err := json.Unmarshal(value, &s)
	switch {
	case err != nil || s.Version < 1:
		return fmt.Errorf("%s in the store of the fleet is not what mxcert writes", place)
	case s.Version > 1:
		return fmt.Errorf("%s in the store of the fleet: %w", place, errLaterTLSA)
	case !slices.Contains(k.trusted(), s.Signer) || !s.Signer.Verify(k.purpose(place), []byte(s.Payload), s.Signature):
		return fmt.Errorf("%s in the store of the fleet is not signed by a host of this fleet: somebody else can write to it", place)
	}
	if err := json.Unmarshal([]byte(s.Payload), payload); err != nil {
		return fmt.Errorf("%s in the store of the fleet is not what mxcert writes", place)
	}
	return nil
}

// spkiOfKey names the public half of a key of a type.
func spkiOfKey(key bundle.KeyType, pem []byte) (string, error) {
	signer, err := bundle.ParseKey(pem)
	if err != nil {
		return "", err
	}
	found, err := bundle.TypeOf(signer.Public())
	if err != nil || found != key {
		return "", fmt.Errorf("it is no key of type %s", key)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", err
	}
	return bundle.SPKIOf(der), nil
}

// certificates lists the names below a folder of the store.
func certificates(store state.Store) ([]string, error) {
	list, err := store.List("certificate")
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], "/")
	}
	return list, err
}

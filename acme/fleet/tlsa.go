package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"mxcert/acme/bundle"
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
	name string // of the certificate
	m    *Member
}

// Keys returns what hosts share about the keys of a certificate; nil without a fleet.
func (m *Member) Keys(name string) *Keys {
	if m == nil {
		return nil
	}
	return &Keys{name, m}
}

// Host is the name of this host.
func (k *Keys) Host() string { return k.m.set.Host }

// Forget is how long a host that is away counts.
func (k *Keys) Forget() time.Duration { return k.m.set.Forget }

// Sight is what the store has at one moment.
type Sight struct {
	Together  []byte // what hosts remember together; nil if there is nothing that can be believed
	Hosts     []HostSays
	Next      map[bundle.KeyType]NextKey
	Forgotten map[string]time.Time // the hosts that an operator has forgotten, and when; not before what they had said last
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

// Look returns what the store has now about the keys of the given types.
func (k *Keys) Look(ctx context.Context, types []bundle.KeyType) (*Sight, error) {
	s := &Sight{Next: map[bundle.KeyType]NextKey{}}
	err := k.m.ask(ctx, func(ctx context.Context) error {
		places := []string{k.together()}
		for _, key := range types {
			places = append(places, k.next(key))
		}
		values, err := k.m.shared.Many(ctx, places)
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
	_, err := k.open(k.together(), v.Value, &r)
	if later(err) {
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
	pem, spki, generation, err := k.m.vault().openNext(value, k.name, key, 0)
	return NextKey{SPKI: spki, Generation: generation, PEM: pem}, err
}

// readHosts reads what hosts say, and whether they are at work.
func (k *Keys) readHosts(ctx context.Context, s *Sight) error {
	values, _, err := k.m.shared.Below(ctx, "certificate/"+k.name+"/keys")
	if err != nil {
		return err
	}
	var places []string
	for _, v := range values {
		host := path.Base(v.Key)
		says := HostSays{Host: host}
		var text json.RawMessage
		switch _, err := k.open(k.says(host), v.Value, &text); {
		case later(err):
			return err
		case err != nil && k.m.left(v.Value, v.Key): // a host that was removed says nothing
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
		values, err := k.m.shared.Many(ctx, some)
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
// has forgotten and that have not changed anything since, and returns the new text; nil for no change. It is called again if somebody else was
// faster.
func (k *Keys) Change(ctx context.Context, change func(text []byte, forgotten map[string]time.Time) ([]byte, error)) error {
	return k.m.ask(ctx, func(ctx context.Context) error {
		return k.swap(ctx, func(r *togetherValue) (bool, error) {
			text, err := change(r.Text, r.Forgotten)
			if err != nil || text == nil {
				return false, err
			}
			r.Text = text
			delete(r.Forgotten, k.Host()) // it is back
			return true, nil
		})
	})
}

func (k *Keys) swap(ctx context.Context, change func(*togetherValue) (bool, error)) error {
	for {
		v, err := k.m.shared.Get(ctx, k.together())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var r togetherValue
		var sequence int64
		if v.Revision > 0 {
			if sequence, err = k.open(k.together(), v.Value, &r); later(err) {
				return err
			} else if err != nil {
				r = togetherValue{} // what hosts have on their disks takes its place
			}
		}
		changed, err := change(&r)
		if err != nil || !changed {
			return err
		}
		value, err := k.close(k.together(), sequence+1, r)
		if err != nil {
			return err
		}
		_, err = k.m.shared.Swap(ctx, k.together(), v.Revision, value)
		if !errors.Is(err, state.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

// Say replaces what this host says. The number grows with each time.
func (k *Keys) Say(ctx context.Context, number int64, text []byte) error {
	value, err := k.close(k.says(k.Host()), number, json.RawMessage(text))
	if err != nil {
		return err
	}
	return k.m.ask(ctx, func(context.Context) error { return k.m.shared.Replace(k.says(k.Host()), value) })
}

// Unsay takes back what this host says.
func (k *Keys) Unsay(ctx context.Context) error {
	return k.m.ask(ctx, func(context.Context) error { return k.m.shared.Remove(k.says(k.Host())) })
}

// Offer gives all hosts a next key that is on this host's disk, in the place of one of an earlier generation. The error is [state.ErrChanged]
// if there is one of the same or a later generation: then look again.
func (k *Keys) Offer(ctx context.Context, key bundle.KeyType, n NextKey) error {
	place := k.next(key)
	value, err := k.m.vault().sealNext(k.name, key, n.Generation, n.PEM, k.m.now())
	if err != nil {
		return err
	}
	return k.m.ask(ctx, func(ctx context.Context) error {
		v, err := k.m.shared.Get(ctx, place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if v.Revision > 0 {
			if before, err := k.openNext(key, v.Value); err == nil && before.Generation >= n.Generation {
				return fmt.Errorf("the fleet has another next key: %w", state.ErrChanged)
			} else if later(err) {
				return err
			}
		}
		_, err = k.m.shared.Swap(ctx, place, v.Revision, value)
		return err
	})
}

// later reports whether an older mxcert must not touch a value.
func later(err error) bool {
	r, ok := errors.AsType[*Refused](err)
	return ok && r.ID == LaterVersion
}

// close signs a value for its place.
func (k *Keys) close(place string, sequence int64, value any) ([]byte, error) {
	return k.m.vault().note(place, sequence, k.m.now(), value)
}

// open reads a value that a host of this fleet has signed for this place.
func (k *Keys) open(place string, text []byte, value any) (sequence int64, err error) {
	n, _, err := k.m.vault().readNote(text, place, 0, value)
	if err != nil {
		return 0, err
	}
	return n.Sequence, nil
}

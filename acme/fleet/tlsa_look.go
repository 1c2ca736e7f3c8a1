package fleet

import (
	"context"
	"encoding/json"
	"path"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

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

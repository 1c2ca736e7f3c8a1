package dane

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Phase is where the keys of one type stand. It is derived, never stored.
type Phase string

// The phases, in the order of a rollover.
const (
	Steady     Phase = "steady"     // current and next are published everywhere, and next is held long enough: a roll waits for nothing
	Unprobed   Phase = "unprobed"   // before the first publication: some address could not be probed, or serves a key that the set would lack
	Preparing  Phase = "preparing"  // the next key has to be made or stored
	Publishing Phase = "publishing" // the records of next have to be added: by mxcert, or by the operator (mode gate)
	Spreading  Phase = "spreading"  // added, but not seen on every address of every server, signed
	Holding    Phase = "holding"    // seen everywhere; senders may still hold older sets
	Rolling    Phase = "rolling"    // a certificate with next may be ordered and deployed
	Retiring   Phase = "retiring"   // the old key's record waits for the end of the grace
	Blocked    Phase = "blocked"    // something has to be fixed by a person; Wait.For says what
)

// Facts are what a pass knows when it plans.
type Facts struct {
	At       state.Instant
	Settings Settings
	Owners   []Owner            // that must be covered: every host name of the certificate at every port
	Views    []View             // of this pass's looks, in the order of Owners
	Places   []Place            // where the records of Owners are, in the same order; the zero Place if that is not known
	Current  []KeyOf            // the keys of the current certificates, one for each wanted key type that has one
	Next     []KeyOf            // the stored next keys; without those that cannot be read
	Serving  map[string]bool    // SPKIs that endpoints, or other addresses of the names, were seen to serve in this pass
	AllSeen  bool               // every endpoint has answered, so what is not in Serving is served nowhere
	Applying bool               // a deployment is under way or half done
	Listed   map[Place][]string // what the publisher lists, in the form of [resolve.TLSA.String]; nil if it was not asked

	Types  []bundle.KeyType          // the wanted key types; nil: those of Current and Next
	Unread map[bundle.KeyType]string // why a next key that is stored cannot be read now: it is not replaced
	Probed bool                      // every address of every name was asked in this pass, and answered: a first publication needs that
	Name   string                    // of the certificate, for commands in texts
	// Unasked says that the service that holds the zone was not asked what it has, because a look changes nothing.
	Unasked bool
	Names   []string // names in the certificates that endpoints were seen to serve: their records stay

	Elsewhere *Elsewhere // the other hosts of the fleet; nil if there is none
	joined    bool       // what they say is in the facts
	doubt     string     // why it is not known what they serve
}

// Plan is what to do next.
type Plan struct {
	Phases map[bundle.KeyType]Phase
	Waits  map[bundle.KeyType]Wait
	Make   []bundle.KeyType // store a next key for these, then plan again
	Roll   []bundle.KeyType // order these with their next key now
	Add    []Edit           // complete for all key types and names together
	Remove []Edit
	// Narrows are the SPKIs that senders accept after Add, if it comes to a place where they accept more until now; nil if it does not.
	Narrows []string
	// Show are the records that should be there, by owner: for `tlsa show`, and for the operator in mode gate.
	Show []Wanted
	// Wait are key types without a certificate that must not be ordered with a key of their own: senders would refuse it. They are in Roll once
	// senders accept their next key.
	Wait []bundle.KeyType
	// Free are stored next keys that no record names any more and that nobody needs: they may be removed.
	Free []bundle.KeyType
	// Expiring says that signatures end too soon for a change of keys; "" if they do not.
	Expiring string
	Warnings []string
	Next     time.Time // when something may change by itself; zero: at the next hourly pass
}

// Edit is a change at one place.
type Edit struct {
	Place   Place
	Records []string
	Keys    []string // the SPKI of each of Records
	For     string   // the name before aliases
}

// Wanted is a record that should be there.
type Wanted struct {
	Owner  Owner
	Record string
	Key    bundle.KeyType
	SPKI   string
	Role   string // current, next or old
}

// Wait says what is waited for.
type Wait struct {
	For   string    // a clause: what is waited for, and why
	Until time.Time // zero if nobody knows
}

// Plan derives what to do from what is remembered and what is known. It changes nothing. It is deterministic, and carrying out a plan
// whole, in part or twice never breaks I4.
//
// Carry out Add and Remove in any order, each Edit of Add after [State.Claim] was stored for it. An Edit is one change: its records are added
// or removed together, if the service can do that.
func (s *State) Plan(f Facts) Plan {
	p := newPlanner(s, f)
	p.out.Expiring = p.expiring()
	p.warn()
	switch f.Settings.Mode {
	case Publish, ByHand:
		p.remove()
		for _, key := range p.types {
			phase, wait := p.stand(key)
			p.out.Phases[key], p.out.Waits[key] = phase, wait
			p.wake(phase, wait)
		}
		p.add()
	default:
		p.leave()
	}
	p.free()
	p.show()
	return p.out
}

// planner is a plan in the making.
type planner struct {
	s   *State
	f   Facts
	out Plan

	types   []bundle.KeyType
	targets []target
	blind   string // why the records at some place are not known; "" if they are
	stuck   string // why a record of ours cannot be removed
	stale   bool   // records of ours have to be removed before new ones are added
}

// target is a place where records are wanted.
type target struct {
	place  Place
	owners []int // of Facts.Owners
	listed []string
	known  bool    // listed is what the service holds
	forms  []uint8 // the matching types that records of usage 3, selector 1 have there, 1 among them
}

func newPlanner(s *State, f Facts) *planner {
	f = f.together()
	p := &planner{s: s, f: f, types: f.types()}
	p.out.Phases, p.out.Waits = map[bundle.KeyType]Phase{}, map[bundle.KeyType]Wait{}
	for i := range f.Owners {
		place := f.place(i)
		n := slices.IndexFunc(p.targets, func(t target) bool { return t.place.same(place) })
		if n < 0 || place.Name == "" {
			n = len(p.targets)
			p.targets = append(p.targets, p.target(place))
		}
		p.targets[n].owners = append(p.targets[n].owners, i)
	}
	for i := range p.targets {
		t := &p.targets[i]
		t.forms = p.forms(*t)
		if t.known || p.blind != "" || f.Settings.Mode != Publish || f.Unasked {
			continue
		}
		name := f.Owners[t.owners[0]].Name()
		if t.place.Name == "" {
			p.blind = "mxcert does not know which zone holds the records of " + name
		} else {
			p.blind = "the service that holds the zone has not said which records " + name + " has"
		}
	}
	return p
}

func (p *planner) target(place Place) target {
	listed, known := p.f.listed(place)
	return target{place: place, listed: listed, known: known && place.Name != ""}
}

// wake notes when something may change by itself.
func (p *planner) wake(phase Phase, wait Wait) {
	at := wait.Until
	switch phase {
	case Steady, Blocked, Unprobed, Rolling:
		return
	case Publishing, Spreading, Preparing, Holding, Retiring:
		if at.IsZero() {
			at = p.f.At.At.Add(p.pause())
		}
	}
	if p.out.Next.IsZero() || at.Before(p.out.Next) {
		p.out.Next = at
	}
}

// pause is how long to wait for others: servers usually follow within the TTL, and one that has not followed for long is not asked all the
// time.
func (p *planner) pause() time.Duration {
	first, now := min(max(p.f.ttl(), time.Second), 5*time.Minute), p.f.At.At
	var newest time.Time
	for _, o := range p.s.Ours {
		if o.Added.After(newest) && !o.Added.After(now) {
			newest = o.Added
		}
	}
	if newest.IsZero() {
		return first
	}
	return min(max(first, now.Sub(newest)/8), time.Hour)
}

func (p *planner) roll(key bundle.KeyType) Roll {
	if r := p.s.Keys[key]; r != nil {
		return *r
	}
	return Roll{}
}

// types returns the wanted key types.
func (f Facts) types() []bundle.KeyType {
	if f.Types != nil {
		return f.Types
	}
	var list []bundle.KeyType
	for _, k := range slices.Concat(f.Current, f.Next) {
		if !slices.Contains(list, k.Type) {
			list = append(list, k.Type)
		}
	}
	return list
}

func (f Facts) place(i int) Place {
	if i < len(f.Places) {
		return f.Places[i]
	}
	return Place{}
}

// view returns the look at an owner; one that has failed if there was none.
func (f Facts) view(i int) View {
	if i < len(f.Views) {
		return f.Views[i]
	}
	return View{Owner: f.Owners[i], At: f.At, Err: errNoLook}
}

var errNoLook = errors.New("there was no look at it in this pass")

// listed returns what the service holds at a place; false if it was not asked, or has not answered.
func (f Facts) listed(place Place) ([]string, bool) {
	for other, records := range f.Listed {
		if place.same(other) {
			return records, true
		}
	}
	return nil, false
}

func (a Place) same(b Place) bool { return a.Zone == b.Zone && a.Name == b.Name }

// ttl is the longest TTL that the records have now, or will have.
func (f Facts) ttl() (longest time.Duration) {
	for i := range f.Owners {
		for _, set := range f.view(i).Sets() {
			if len(set.Records) > 0 {
				longest = max(longest, set.TTL)
			}
		}
	}
	return cmp.Or(longest, f.Settings.TTL)
}

// grace is for how long nothing must have served an old key before its record is removed.
func (f Facts) grace() time.Duration { return Hold(f.ttl(), f.Settings) }

func find(list []KeyOf, key bundle.KeyType) (KeyOf, bool) {
	if i := slices.IndexFunc(list, func(k KeyOf) bool { return k.Type == key }); i >= 0 {
		return list[i], true
	}
	return KeyOf{}, false
}

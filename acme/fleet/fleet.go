// Package fleet lets hosts share certificates through a store that all of them reach ([state.Shared], etcd).
//
// The disk of each host is the truth for its mail server. Losing the store, or finding it empty, damaged or from an old backup, changes nothing
// that a host serves (invariant I14): it is never a reason to order, remove or change a certificate, and is filled again from the disks.
//
// What is shared, below the prefix of the fleet:
//
//	cluster                      whose fleet this is: version, name, when it was made
//	certificate/NAME/KEY         the newest bundle: chain, sealed key, serial, SPKI, generation, notAfter, host, signature
//	certificate/NAME/next/KEY    the sealed next key of a rollover (TLSA)
//	certificate/NAME/tlsa        what hosts remember together about the TLSA records
//	order/NAME/KEY               the order in flight with its sealed key
//	account/CA                   the sealed account; usage/CA: its budgets and failures
//	lock/…                       who does what now: leases
//	host/ID/alive                a short lease: the host is at work
//	host/ID/seen                 a long lease: the host is not forgotten; its recipient, version and time
//	host/ID/deployed/NAME        what it wants, has on disk and was seen to serve
//	recipient/AGE1…              a signed statement: added or removed, by whom, when
//
// Every value has a version; a later one is refused by name. Everything that a host believes is signed by a recipient that it trusts.
package fleet

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// Settings say who this host is in which fleet.
type Settings struct {
	Name       string // of the fleet
	Host       string // of this host in it
	Identity   *seal.Identity
	Recipients []seal.Recipient // that this host trusts, as configured: all hosts, and the recovery key
	Alone      bool             // may order without the store, late
	Forget     time.Duration    // how long a host that is away counts; 0: 14 days
}

// Member is this host in its fleet. A nil Member is no fleet: its methods say so or do nothing.
type Member struct{}

// New returns the member. It asks the store nothing. disk is the store of this host.
func New(_ Settings, _ state.Shared, _ state.Store, _ *slog.Logger) (*Member, error) {
	return nil, errors.New("not built yet")
}

// Store returns the store for this host's book: that of the disk, which also hands orders in flight, accounts and budgets to the fleet. All
// reads are from the disk.
func (m *Member) Store() state.Store { return nil }

// Run keeps this host alive in the fleet and learns what others do, until ctx ends: for the daemon. It calls changed with the names of
// certificates about which others have written something new, and with none if what [Member.Health] says has changed.
func (m *Member) Run(_ context.Context, _ func(names []string)) {}

// Health is how the store is, as far as this host knows.
type Health struct {
	Up     bool      `json:"up"`
	Since  time.Time `json:"since"`            // that it is so
	Reason string    `json:"reason,omitempty"` // why it is not up: one clause, for people
	Hint   string    `json:"hint,omitempty"`
	Faults []string  `json:"faults,omitempty"` // what the store holds and this host refuses: forged, replayed, from a later version
}

// Health returns it. It asks nobody.
func (m *Member) Health() Health { return Health{} }

// Wish is what a host wants of a certificate.
type Wish struct {
	Names    []string         `json:"names"`              // that it must have
	Optional []string         `json:"optional,omitempty"` // that it should have
	Keys     []bundle.KeyType `json:"keys"`
}

// Merged is what the hosts of a fleet want together of a certificate.
type Merged struct {
	Wish
	By map[string][]string // which hosts want a name, for names that this host does not want itself
}

// Merge returns what the hosts want together, with this host's own wish first. With a store that is away, it is what was last known.
func (m *Member) Merge(_ context.Context, _ string, own Wish) Merged { return Merged{Wish: own} }

// Shared is a bundle that another host has offered: checked, and later than what this host has taken or offered before.
type Shared struct {
	Bundle     *bundle.Bundle
	Generation int64
	Host       string // that offered it
	Names      []string
	Directory  string // URL of the CA's directory
	Order      string
	Created    time.Time
}

// Take returns the bundle of a key type that the fleet has and this host does not have yet; nil if there is none. It refuses what is forged,
// replayed, or not what it says: such an error says what, and does not stop a pass.
func (m *Member) Take(_ context.Context, _ string, _ bundle.KeyType) (*Shared, error) {
	return nil, nil //nolint:nilnil // there is none
}

// Taken notes, durably on this host's disk, that a bundle is stored here: an older generation is refused from now on.
func (m *Member) Taken(_ string, _ bundle.KeyType, _ *Shared) error { return nil }

// Lead is the right to order a certificate for the fleet.
type Lead struct {
	Alone bool // without the store
}

// Lead waits until this host alone may order a certificate, or ctx ends (ErrLocked, with the name of the host that orders). What the holder
// before has left, an order in flight, is on this host's disk then. danger says that less than a fifth of the life is left; managed that mxcert
// manages TLSA records of it. Without the store the error is [*Held], unless this host may order alone.
func (m *Member) Lead(_ context.Context, _ string, _ Danger) (*Lead, error) { return &Lead{}, nil }

// Danger is what decides whether a host orders without the store.
type Danger struct {
	NotAfter time.Time     // of what this host serves; zero if it serves nothing
	Life     time.Duration // of that certificate
	Managed  bool          // mxcert manages TLSA records of it
}

// Held says that a host waits with an order, and until when.
type Held struct {
	Until  time.Time
	Why    string
	Advice string
}

// Error says why.
func (e *Held) Error() string { return e.Why }

// Offer gives the fleet the bundle of a generation that is on this host's disk, if the fleet has none or an older one: after an order, and
// when the store was lost.
func (m *Member) Offer(_ context.Context, _ *Lead, _ string, _ state.Generation, _ *bundle.Bundle) error {
	return nil
}

// Release ends a lead. It may be called twice.
func (l *Lead) Release() {}

// Deployed is what a host says about a certificate: what it wants, has and serves.
type Deployed struct {
	Host    string                `json:"host"`
	Alive   bool                  `json:"-"` // it is at work now
	Seen    time.Time             `json:"-"` // when it was last at work
	At      time.Time             `json:"at"`
	Wish    Wish                  `json:"wish"`
	Keys    map[string]Deployment `json:"keys"`    // by key type
	OnDisk  []string              `json:"on_disk"` // SPKIs of the keys that it has, next ones included
	Serving []string              `json:"serving"` // SPKIs that its endpoints were seen to serve
	Certain bool                  `json:"certain"` // every endpoint has answered
	Problem string                `json:"problem,omitempty"`
}

// Deployment is what a host has of one key type.
type Deployment struct {
	Serial     string    `json:"serial,omitempty"` // on its disk
	Generation int64     `json:"generation,omitempty"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Served     string    `json:"served,omitempty"` // the serial that handshakes have shown; "" if none has
	At         time.Time `json:"at,omitzero"`      // when
}

// Note says what this host wants, has and serves. It stores it on the disk, and in the store soon; it waits for nobody.
func (m *Member) Note(_ string, _ Deployed) {}

// Hosts returns what all hosts that are not forgotten say about a certificate, this one included. The error is ErrAway if the store cannot be
// asked; then the list is what was last known.
func (m *Member) Hosts(_ context.Context, _ string) ([]Deployed, error) { return nil, nil }

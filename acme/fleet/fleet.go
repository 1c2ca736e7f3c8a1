// Package fleet lets hosts share certificates through a store that all of them reach ([state.Shared], etcd).
//
// The disk of each host is the truth for its mail server. Losing the store, or finding it empty, damaged or from an old backup, changes nothing
// that a host serves (invariant I14): it is never a reason to order, remove or change a certificate, and is filled again from the disks.
//
// What is shared, below the prefix of the fleet:
//
//	cluster                            whose fleet this is: name, and a mark of when it was made
//	certificate/NAME/KEY               the newest bundle: chain, sealed key, serial, SPKI, generation, notAfter, host
//	certificate/NAME/next/KEY          the sealed next key of a rollover (TLSA)
//	certificate/NAME/tlsa              what hosts remember together about the TLSA records
//	certificate/NAME/revoked/SERIAL    that a certificate was revoked
//	order/NAME/KEY                     the order in flight with its sealed key
//	account/CA                         the sealed account, which each host at work has on its disk, too; usage/CA: its budgets and failures
//	.tmp-locks/lock/…                  who does what now: leases
//	hosts                              the names of the hosts
//	host/ID/alive                      a lease of 3 minutes: the host is at work
//	host/ID/seen                       a lease of 14 days: the host is not forgotten; its recipient, version and time
//	host/ID/deployed/NAME              what it wants, has on disk and was seen to serve
//	recipient/AGE1…                    a statement: added or removed, by whom, when
//
// # Values
//
// Every value is signed by the host that wrote it, together with its key and the name of the fleet, and has a version: a later one is refused
// by name. What follows another has a generation, one more than before. A host remembers on its disk the generation that it has seen of each
// value, and refuses older ones. So who can write to the store can neither forge a value, nor put it in another place, nor bring back an old
// one; who can read it reads no key (package seal).
//
// # Trust
//
// A host trusts the recipients of its configuration, itself, and what these have added by a statement. A removal is remembered on the disk for
// good, and wins. What a removed recipient had added before its removal stays, if this host has seen it before.
//
// # When the store is away
//
// The first call that fails says so to all others, which then fail at once; [Member.Run] asks again in the background. A command, without
// Run, asks no more. A host that cannot read its identity behaves as if the store were away. A call ends after the patience of the store, 5 s.
// Leases decide who is alive: by the clock of the store, not of hosts.
//
// # What it costs
//
// Requests to the store, and how a new certificate spreads, by a simulation with the times of this package and the requests that members were
// seen to make (TestAYearOfAFleet; no real store). A command that only looks costs a few more. Of those at rest, each host makes three in 30 s to prove
// that its watches miss nothing; they cost etcd less than a read.
//
//	hosts  certificates  at rest  busiest second  a renewal  orders a year       all serve it (median)
//	    3             5    2.4/s              18         50      30 (alone 91)                   0.7 s
//	   50            50     16/s              54        385     304 (15,000)                     3.7 s
//	1,000           200    228/s             650     83,000   1,217 (1.2 million)                 60 s
//
// The last column supposes that a host deploys in 0.6 s, most of which the mail server's own programs take (packaging/bench/README.md). In a large
// fleet it is mostly the time over which the daemons spread, so that not all of them reload at once.
package fleet

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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
	Identify   func() (*seal.Identity, error) // reads the identity if Identity is nil; it is called again each time that Run, or a command, tries to reach the store
	Recipients []seal.Recipient               // that this host trusts, as configured: all hosts, and the recovery key
	Alone      bool                           // may order without the store, late
	Forget     time.Duration                  // how long a host that is away counts; 0: 14 days
	Session    string                         // random, of a process that calls Run: a second host with the same name is noticed, and nobody asks the store before Run does; "": of a command
	Version    string                         // of this mxcert, for people
	Now        func() time.Time               // the clock of this host; nil: time.Now. Only what is compared with a time of another host or a certificate comes from it
}

// Member is this host in its fleet. A nil Member is no fleet: its methods say so or do nothing.
type Member struct {
	set    Settings
	shared state.Shared
	disk   state.Store
	book   *state.Book // of the disk
	log    *slog.Logger

	self    atomic.Pointer[seal.Identity] // nil as long as it cannot be read
	reading sync.Mutex                    // held by who reads it
	trust   atomic.Pointer[trust]

	remembering chan struct{} // holds one while the memory changes

	mu         sync.Mutex
	memory     memory // a copy of what is on the disk
	down       error  // why the store is not asked now; nil if it may be
	entered    bool   // the first checks have passed
	running    bool   // Run is at work
	isFull     bool   // the store takes no changes
	absent     bool   // the store did not have this host among those at work
	untrusting error  // why this host does not know whom to trust
	asked      chan struct{}
	faults     map[string]string   // by the key of a value
	strays     map[string]*Refused // locks that no host has made, by key
	leads      map[string]*Lead
	waiting    map[string]bool // certificates that this host waits to order
	only       map[string]bool // certificates of the configuration; nil: all
	retired    map[string]bool // about which this host has said something that it takes back
	values     map[string]state.Versioned
	interest   map[string]bool // certificates of which values are kept
	loaded     map[string]bool // all of their values were read
	overtaken  map[string]time.Time
	own        map[string]*noted  // what this host says about each certificate
	queue      map[string]Revoked // that wait to be written, by key
	known      map[string]*knownHosts
	revoked    map[string][]Revoked
	index      indexAt
	retries    map[string]retry
	wake       chan struct{}
	onChange   func(names []string)
}

// New returns the member. It asks the store nothing. disk is the store of this host.
func New(set Settings, shared state.Shared, disk state.Store, log *slog.Logger) (*Member, error) {
	if err := set.check(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	set.Forget = orDefault(set.Forget, forgetAfter)
	if set.Now == nil {
		set.Now = time.Now
	}
	runs := set.Session != ""
	if !runs {
		set.Session = random()
	}
	m := &Member{
		remembering: make(chan struct{}, 1), set: set, shared: shared, disk: disk, book: state.New(disk), log: log.With("fleet", set.Name),
		faults: map[string]string{}, retries: map[string]retry{}, leads: map[string]*Lead{}, waiting: map[string]bool{}, values: map[string]state.Versioned{},
		interest: map[string]bool{}, loaded: map[string]bool{}, overtaken: map[string]time.Time{}, own: map[string]*noted{}, queue: map[string]Revoked{},
		known: map[string]*knownHosts{}, revoked: map[string][]Revoked{}, wake: make(chan struct{}, 1), running: runs,
	}
	if runs {
		m.asked = make(chan struct{})
	}
	m.trust.Store(newTrust(set.Name, "", set.Recipients))
	m.recall()
	m.untrusting = m.recallTrust()
	_ = m.knowsSelf() // whoever asks the store first tries again, and says why not
	return m, nil
}

// Name returns the names of the fleet and of this host in it.
func (m *Member) Name() (fleet, host string) {
	if m == nil {
		return "", ""
	}
	return m.set.Name, m.set.Host
}

// now is what the clock of this host says.
func (m *Member) now() time.Time { return m.set.Now() }

// Health is how the store is, as far as this host knows.
type Health struct {
	Up     bool      `json:"up"`
	Since  time.Time `json:"since"`            // that it is so
	Reason string    `json:"reason,omitempty"` // why it is not up: one clause, for people
	Hint   string    `json:"hint,omitempty"`
	Faults []string  `json:"faults,omitempty"` // what the store holds and this host refuses: forged, replayed, from a later version
}

// Health returns it. It asks nobody.
func (m *Member) Health() Health {
	if m == nil {
		return Health{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.memory.health()
	for _, place := range slices.Sorted(maps.Keys(m.faults)) {
		if len(h.Faults) == mostFaults {
			break
		}
		h.Faults = append(h.Faults, m.faults[place])
	}
	return h
}

// mostFaults is how many faults Health lists.
const mostFaults = 20

// fault notes what is wrong with a value; nil: nothing any more. Health says it, and whoever calls Run makes it known: a log of this package would
// say it twice.
func (m *Member) fault(place string, err error) {
	m.mu.Lock()
	before := m.faults[place]
	if err == nil {
		delete(m.faults, place)
	} else if len(m.faults) < 1000 || before != "" {
		m.faults[place] = err.Error()
	}
	changed := m.faults[place] != before
	m.mu.Unlock()
	if changed {
		m.announce()
	}
}

// vault returns what seals and opens with whom this host trusts now.
func (m *Member) vault() vault {
	return vault{fleet: m.set.Name, host: m.set.Host, identity: m.self.Load(), trust: m.trust.Load()}
}

// keyTypes are all that a certificate may have.
func keyTypes() []bundle.KeyType {
	return []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}
}

// background is the context of what must end although its caller does not wait.
func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// patience bounds what is done without a context of its own.
const patience = 5 * time.Second

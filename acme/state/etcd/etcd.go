// Package etcd is the store in an etcd cluster: [state.Shared] with a key for each value below one prefix, so that a role of etcd can be limited to
// it. state.Store and state.Shared make the promises; this comment says how this package keeps them.
//
// Each change is one transaction, also that of a folder. A list of many keys is read page by page at one revision; it asks for keys without values,
// and steps over what is deeper. Keys that no store makes are left out of all lists.
//
// A lock is a key with a lease of its own, in a folder of locks that no caller can remove: LOCK//alone-LEASE, or LOCK//shared-LEASE beside others. It
// is made if the lock has no other key. Who waits follows a watch of the lock. The lease is renewed three times before it would end. The lock is a
// fence: each change by a holder compares the CreateRevision of the keys of all locks that it holds. So a holder that has lost a lock, and perhaps
// does not know, is refused by etcd itself.
//
// A store is connected to one member at a time; hosts begin with different ones. If it refuses, is silent for its share of the patience, or has no
// leader, the others are asked in turn, within the patience. A change that was sent, and not answered, is not sent again: it may have happened. If no
// member has a leader, a call waits for an election; if none can be reached, it does not wait. Nothing is tried again between calls, but the
// renewal of a lease that is held, and a connection that broke, at intervals that grow to a minute. A call makes a new attempt at once.
//
// A watch that is told nothing asks its member for a proof that there is nothing to tell (proof.go), and goes on at another one without it. It sees
// what happened, which is not always what a caller was told: a change that was sent to a member that hangs can happen after later ones.
//
// Each error says which member did what, and what to do next.
//
// Not supported: passwords (the user is the common name of the client certificate), more than one cluster at once, and etcd before 3.4, which gives
// no such proof. The values of a transaction are at most 1.5 MiB, and its conditions 128, as etcd has it by default: that bounds what Rename moves,
// and with how many locks.
package etcd

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"time"

	"mxcert/acme/state"
)

// Settings are how to reach a cluster, and who asks.
type Settings struct {
	Endpoints []string      // URLs of members; the scheme is https, or http in tests
	TLS       *tls.Config   // roots and the certificate of this client; nil for http
	Prefix    string        // of all keys, with a slash at its end: /mxcert/v1/berlin/
	Holder    string        // who holds the locks of this store: the name of the host
	Patience  time.Duration // of each call; 0: 5 s
	Lease     time.Duration // how long a lock outlives a holder that is gone; 0: 30 s
	Proof     time.Duration // how often a watch has to prove that it misses nothing; 0: 30 s
}

const (
	defaultPatience = 5 * time.Second
	defaultLease    = 30 * time.Second
	defaultProof    = 30 * time.Second
)

// Store is a cluster as one holder of locks sees it. It fulfils [state.Shared].
type Store struct {
	*link
	owner bool // of the link

	mu     sync.Mutex
	held   map[*hold]struct{}
	closed bool

	unfenced bool // tests show with it that the fence is what keeps stale holders out
}

var _ state.Shared = (*Store)(nil)

// Open returns the store. It asks nobody yet: a cluster that is away is an error of the first call.
func Open(s Settings) (state.Shared, error) {
	if s.Patience == 0 {
		s.Patience = defaultPatience
	}
	if s.Lease == 0 {
		s.Lease = defaultLease
	}
	if s.Proof == 0 {
		s.Proof = defaultProof
	}
	if !strings.HasSuffix(s.Prefix, "/") {
		return nil, fmt.Errorf("open etcd: the prefix %q does not end with a slash", s.Prefix)
	}
	l, err := connect(s)
	if err != nil {
		return nil, fmt.Errorf("open etcd: %w", err)
	}
	return &Store{link: l, owner: true, held: map[*hold]struct{}{}}, nil
}

// Holder returns the store for another holder of locks: they are a fence for its changes alone.
func (s *Store) Holder() state.Shared {
	return &Store{link: s.link, held: map[*hold]struct{}{}, unfenced: s.unfenced}
}

// Path returns "": no value is a file.
func (s *Store) Path(string) string { return "" }

// Close ends the leases of all locks, and the connection.
func (s *Store) Close() error {
	s.mu.Lock()
	held := s.held
	s.held, s.closed = map[*hold]struct{}{}, true
	s.mu.Unlock()
	var ending sync.WaitGroup
	for h := range held {
		ending.Go(h.end)
	}
	ending.Wait()
	if !s.owner {
		return nil
	}
	return s.shut()
}

// Package etcd is the store in an etcd cluster: [state.Shared] with a key for each value below one prefix.
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
}

const (
	defaultPatience = 5 * time.Second
	defaultLease    = 30 * time.Second
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

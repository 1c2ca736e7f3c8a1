// Package metrics publishes numbers for monitoring: over HTTP, and in a file for the textfile collector of node_exporter.
//
// It decides nothing. A [Source] holds what is known, a [Snapshot] and counters, and gives it in the form of Prometheus. A [Server] answers
// /metrics and /healthz; TLS and passwords are those of a web configuration file of Prometheus' exporter-toolkit. [WriteFile] replaces a
// textfile as a whole.
//
// The metrics are listed in catalogue.go. Their names and labels never change. Times are UNIX timestamps and no countdowns, so they stay
// right between two changes. Every label comes from the configuration, is one of a few words, or is the name of a host of the fleet; what leaves
// the configuration or the fleet leaves the metrics.
//
// Not supported: pushing metrics, and exemplars.
package metrics

import (
	"sync"
	"time"
)

// Snapshot is what is known at one moment. It must not change after it was given to a [Source].
type Snapshot struct {
	Release      string        // version of the program
	ConfigGood   bool          // the files of the configuration are in force
	Configured   []string      // names of the certificates in force
	Certificates []Certificate // those of which something is known, ordered by name
	TLSAStates   []string      // every state that a key can have
	Fleet        *Fleet        // nil if this host is in none
}

// Fleet is what is known about the fleet of this host.
type Fleet struct {
	Up    bool // its store can be used
	Hosts []FleetHost
}

// FleetHost says whether a host was seen to serve the newest certificates of all types of keys that it wants.
type FleetHost struct {
	Certificate, Host string
	Matches           bool
}

// Certificate is what is known about a certificate.
type Certificate struct {
	Name        string
	Keys        []Key
	Endpoints   []Endpoint
	Due         time.Time     // of the renewal; in the past while orders fail; zero if it is not known
	LastSuccess time.Time     // zero if it never was in service
	Took        time.Duration // of the last pass
	Owners      []Owner
	TLSA        []KeyState
	Unknown     int // certificates that mxcert did not order, in the logs; negative if nobody looks
}

// Key is the current certificate of a key type.
type Key struct {
	Key                 string
	NotBefore, NotAfter time.Time
}

// Endpoint is what an address showed last for a key type.
type Endpoint struct {
	Address, Key string
	Matches      bool
	NotAfter     time.Time // of what it showed; zero if the handshake failed
}

// Owner is a port of a host that has TLSA records, or should.
type Owner struct {
	Host    string
	Port    int
	Matches bool // senders accept what is shown there
}

// KeyState says where the TLSA records of a key type stand.
type KeyState struct{ Key, State string }

// Source holds the numbers. Its zero value is ready, and knows nothing. Its methods may be called concurrently.
type Source struct {
	mu       sync.Mutex
	snapshot Snapshot
	carried  []carried          // replaced, never changed
	counters map[string][]tally // by metric; ordered by label
	version  uint64             // changes with every number
	text     text
}

// Set replaces the snapshot.
func (s *Source) Set(snapshot Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot = snapshot
	s.version++
	s.dropCarried()
}

// Snapshot returns the last snapshot.
func (s *Source) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

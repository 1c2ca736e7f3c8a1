// Package etcd is the store in an etcd cluster: [state.Shared] with a key for each value below one prefix.
package etcd

import (
	"crypto/tls"
	"errors"
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

// Open returns the store. It asks nobody yet: a cluster that is away is an error of the first call.
func Open(_ Settings) (state.Shared, error) { return nil, errors.New("not built yet") }

//go:build !nofleet

package engine

import (
	"mxcert/acme/state"
	"mxcert/acme/state/etcd"
	"mxcert/cmd/mxcert/internal/wanted"
)

// built returns an error if this program was built without fleets.
func built() error { return nil }

func open(f *wanted.Fleet, prefix string) (state.Shared, error) {
	secure, err := f.TLS()
	if err != nil {
		return nil, err
	}
	return etcd.Open(etcd.Settings{Endpoints: f.Endpoints, TLS: secure, Prefix: prefix, Holder: f.Host})
}

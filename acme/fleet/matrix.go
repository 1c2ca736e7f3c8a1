package fleet

import (
	"slices"

	"mxcert/acme/bundle"
)

// NewestOf returns the newest of each type of key that any of the hosts has, as they say.
func NewestOf(hosts []Deployed) map[bundle.KeyType]Deployment {
	newest := map[bundle.KeyType]Deployment{}
	for _, d := range hosts {
		for key, has := range d.Keys {
			before, known := newest[bundle.KeyType(key)]
			if has.Serial != "" && (!known || has.Generation > before.Generation || has.Generation == before.Generation && has.NotAfter.After(before.NotAfter)) {
				newest[bundle.KeyType(key)] = has
			}
		}
	}
	return newest
}

// Wants reports whether a host wants a type of key.
func (d Deployed) Wants(key bundle.KeyType) bool { return slices.Contains(d.Wish.Keys, key) }

// Serves reports whether a host was seen to serve the certificate of a type of key with that serial; or has it on its disk, and no endpoint to
// serve it at.
func (d Deployed) Serves(key bundle.KeyType, serial string) bool {
	has := d.Keys[string(key)]
	nowhere := has.Served == "" && d.Certain
	return serial != "" && has.Serial == serial && (has.Served == serial || nowhere)
}

package dane

import (
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// State is what is remembered about the TLSA records of one certificate. The private halves of next keys are stored beside it
// ([state.Lineage.SaveNext]).
type State struct {
	Version int                      `json:"version"`
	Mode    Mode                     `json:"mode"` // in force at the last pass
	Memory  Memory                   `json:"memory,omitempty"`
	Keys    map[bundle.KeyType]*Roll `json:"keys,omitempty"`
	Ours    []Ours                   `json:"ours,omitempty"`
	// Former are records that mxcert had added and has removed. If one of them comes back, from the backup of a server, it is still ours.
	Former []Ours `json:"former,omitempty"`
	// Probed says since when every address of every name was seen to serve keys of ours only; zero if never. A first publication asks again.
	Probed state.Instant `json:"probed,omitzero"`
	// Peers are the other hosts of the fleet, and Shared the next keys that its store has: by key type, the highest generation that was met.
	Peers  map[string]*Peer              `json:"peers,omitempty"`
	Shared map[bundle.KeyType]SharedNext `json:"shared,omitempty"`
	Before []Before                      `json:"before,omitempty"` // as in [Shared]
	Said   *Statement                    `json:"said,omitempty"`   // what this host has said last about its keys
}

// SharedNext is a next key that is in the store of the fleet.
type SharedNext struct {
	SPKI       string `json:"spki_sha256"`
	Generation int64  `json:"generation"`
}

// Roll is what is remembered about the keys of one type.
type Roll struct {
	Next    string        `json:"next,omitempty"` // SPKI of the stored next key
	Made    time.Time     `json:"made,omitzero"`
	Current string        `json:"current,omitempty"` // SPKI of the key that was last proven on every endpoint
	Since   state.Instant `json:"since,omitzero"`    // when it became that
	Asked   *Asked        `json:"asked,omitempty"`
	Retired []Retired     `json:"retired,omitempty"`
}

// Asked is a roll that was asked for, or that became due.
type Asked struct {
	At        time.Time `json:"at"`
	Reason    string    `json:"reason"` // a clause, such as "the key is older than 365 days"
	Emergency bool      `json:"emergency,omitempty"`
	Fresh     bool      `json:"fresh,omitempty"`
	Ignore    bool      `json:"ignore,omitempty"` // --ignore-dane
	// Leaked are the keys that an emergency is about: none of them is ever a next key again.
	Leaked []string `json:"leaked,omitempty"`
	// Of is the key that is to be replaced, where hosts of a fleet remember it together.
	Of string `json:"of,omitempty"`
}

// Retired is a key that was served before the current one. Its record stays until the grace is over and nothing serves it.
type Retired struct {
	SPKI string        `json:"spki_sha256"`
	Last state.Instant `json:"last"`           // the last look that counted towards Gone
	Gone time.Duration `json:"gone,omitempty"` // counted time for which no endpoint has served it
	// Compromised says that the record is removed as soon as nothing serves the key: there is no grace for a leaked key.
	Compromised bool `json:"compromised,omitempty"`
}

// Ours is a record that mxcert has added, or was about to add: it is stored before the change is made. Every other record is somebody
// else's, and is never touched.
type Ours struct {
	Owner  string    `json:"owner"` // the name at which it was added, after all aliases, fully qualified
	Zone   string    `json:"zone"`
	Record string    `json:"record"`
	SPKI   string    `json:"spki_sha256"`
	Added  time.Time `json:"added"`

	Primary string `json:"primary,omitempty"` // as in [Place]
	For     string `json:"for,omitempty"`     // the name before aliases ([Owner.Name])
}

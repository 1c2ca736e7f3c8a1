package fleet

import (
	"maps"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// Wish is what a host wants of a certificate.
type Wish struct {
	Names    []string         `json:"names"`              // that it must have
	Optional []string         `json:"optional,omitempty"` // that it should have
	Keys     []bundle.KeyType `json:"keys"`
}

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

// Bounds of what is believed of others.
const (
	mostHosts   = 2000
	mostOnDisk  = 100 // SPKIs
	mostProblem = 500 // bytes
	mostSerial  = 64  // hexadecimal digits
	mostVersion = 40  // bytes
	mostNames   = 100 // that a certificate may have
)

// statement of a host, as it is kept.
type said struct {
	Deployed
	Alive    bool      `json:"alive"`
	Seen     time.Time `json:"seen,omitzero"`
	Sequence int64     `json:"sequence"`

	revisions [3]int64 // of alive, seen and deployed, as they were read
}

func (s said) deployed() Deployed {
	d := s.Deployed
	d.Alive, d.Seen = s.Alive, s.Seen
	return d
}

// bounded leaves out what no mxcert says: another host, although it is trusted, must not fill this one's memory, nor its terminal.
func (d Deployed) bounded() Deployed {
	isOther := func(key bundle.KeyType) bool { return !slices.Contains(keyTypes(), key) }
	d.OnDisk, d.Serving = first(d.OnDisk, mostOnDisk), first(d.Serving, mostOnDisk)
	d.Wish.Names, d.Wish.Optional = first(d.Wish.Names, mostNames), first(d.Wish.Optional, mostNames)
	d.Wish.Keys = first(slices.DeleteFunc(slices.Clone(d.Wish.Keys), isOther), len(keyTypes()))
	d.Problem = finding.Quote(d.Problem, mostProblem)
	d.Keys = maps.Clone(d.Keys)
	maps.DeleteFunc(d.Keys, func(key string, has Deployment) bool {
		return isOther(bundle.KeyType(key)) || len(has.Serial) > mostSerial || len(has.Served) > mostSerial
	})
	return d
}

func first[E any](list []E, n int) []E { return list[:min(len(list), n)] }

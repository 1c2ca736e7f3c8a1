// Package engine makes this host a member of its fleet: with the store that the hosts share, an etcd cluster. It is a room of its own, because
// the client of etcd is as large as the rest of the program: with the build tag nofleet it is left out.
package engine

import (
	"errors"
	"log/slog"

	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Process is what a membership says of the process that has it.
type Process struct {
	Release string // version of the program
	Session string // random: what tells this daemon from another host with the same name; "" for a command
	Looks   bool   // it changes nothing, neither in the store nor on the disk
}

// Join returns the member that a configuration describes, and what closes its connections. Without a fleet (nil) it is nil, which is a member
// of nothing; close may be called all the same. disk is the state of this host. Join asks the store nothing, so that a store that is away keeps
// nobody from starting; it reads the identity of this host.
func Join(f *wanted.Fleet, p Process, disk state.Store, log *slog.Logger) (member *fleet.Member, closeStore func() error, err error) {
	nothing := func() error { return nil }
	if f == nil {
		return nil, nothing, nil
	}
	settings, err := f.Settings()
	if err != nil {
		return nil, nothing, err
	}
	settings.Session, settings.Version = p.Session, p.Release
	shared, err := open(f, Prefix(f.Name))
	if err != nil {
		return nil, nothing, err
	}
	closeStore = shared.Close
	if p.Looks {
		shared, disk = stillShared{shared}, stillDisk{disk}
	}
	if member, err = fleet.New(settings, shared, disk, log); err != nil {
		return nil, nothing, errors.Join(err, closeStore())
	}
	return member, closeStore, nil
}

// Prefix is where a fleet has its keys in the store: what a role of etcd has to allow.
func Prefix(name string) string { return "/mxcert/v1/" + name + "/" }

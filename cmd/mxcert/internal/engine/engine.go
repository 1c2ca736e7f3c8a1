// Package engine makes this host a member of its fleet: with the store that the hosts share, an etcd cluster. It is a room of its own, because
// the client of etcd is a tenth of the program: with the build tag nofleet (make FLEET=no) it is left out.
//
// It is built in by default, so that the packages can do fleets. What that costs a host without the section fleet, in megabytes of 2^20 bytes, as
// make bench-fleet measures it (two runs in turn; times were the same within what the load of the machine did to them):
//
//	                 binary   RSS         of that anonymous
//	with             30.4     29.3, 29.4  5.4, 5.5
//	without          27.2     25.8, 25.8  4.6, 4.7
//
// Both are built with the tag grpcnotrace, as the Makefile and the packages build: without it, the debug pages of gRPC execute templates, the linker
// keeps every method, and the binary grows by 12.6 MiB and not by 3.2. Nothing runs: no goroutine, no connection, no log. What does not go away is
// 0.8 MiB of anonymous memory: descriptions of messages that protobuf registers whenever a program starts that links them. The rest of the RSS is
// pages of the program, which the page cache holds and gives back.
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
// of nothing; close may be called all the same. disk is the state of this host.
//
// Join asks the store nothing, so that a store that is away keeps nobody from starting. Nor does a file or a secret of the fleet that cannot be
// used on this host: then the store is away for this member, with that as the reason, until it can be. The error is about the configuration, or
// about a program that was built without fleets.
func Join(f *wanted.Fleet, p Process, disk state.Store, log *slog.Logger) (member *fleet.Member, closeStore func() error, err error) {
	nothing := func() error { return nil }
	if f == nil {
		return nil, nothing, nil
	}
	if err := built(); err != nil {
		return nil, nothing, err
	}
	settings, err := f.Settings()
	if err != nil {
		return nil, nothing, err
	}
	settings.Session, settings.Version = p.Session, p.Release
	var shared state.Shared = &late{open: func() (state.Shared, error) { return open(f, Prefix(f.Name)) }}
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

package engine

import (
	"context"
	"time"

	"mxcert/acme/state"
)

// Whoever only looks writes nothing: neither to the store of the fleet nor to the disk. A look reads from both; what it would write has happened,
// as far as it can tell, and goes nowhere.

// stillDisk is a state of this host that drops every change.
type stillDisk struct{ state.Store }

func (stillDisk) Replace(string, []byte) error { return nil }
func (stillDisk) Remove(string) error          { return nil }
func (stillDisk) Rename(string, string) error  { return nil }

func (stillDisk) Lock(context.Context, string) (func(), error)  { return func() {}, nil }
func (stillDisk) Share(context.Context, string) (func(), error) { return func() {}, nil }

// stillShared is a store of a fleet that drops every change.
type stillShared struct{ state.Shared }

func (stillShared) Replace(string, []byte) error { return nil }
func (stillShared) Remove(string) error          { return nil }
func (stillShared) Rename(string, string) error  { return nil }

func (stillShared) Lock(context.Context, string) (func(), error)  { return func() {}, nil }
func (stillShared) Share(context.Context, string) (func(), error) { return func() {}, nil }

func (stillShared) Swap(_ context.Context, _ string, revision int64, _ []byte) (int64, error) {
	return revision + 1, nil
}
func (stillShared) Grant(context.Context, time.Duration) (int64, error) { return 1, nil }
func (stillShared) Renew(context.Context, int64) error                  { return nil }
func (stillShared) Lend(context.Context, string, []byte, int64) error   { return nil }
func (s stillShared) Holder() state.Shared                              { return stillShared{s.Shared.Holder()} }

// Package state is what mxcert remembers: accounts, lineages with their immutable generations, orders in flight, the
// journal of TXT records, budgets and backoff.
//
// A [Book] is the logic; a [Store] decides where its records are kept. Every change is durable before a method returns.
// Everything can be rebuilt from the generations and the CA: a missing or damaged record is set aside and made again from the
// generations, and the caller learns of it. A lost note must never be a reason to serve no certificate.
//
//	accounts/CA/            account.json, usage.json, lock (shared by all processes that use the account, see ShareAccount)
//	lineages/NAME/          record.json, lock, one folder a generation; names.json (see Names), names.lock, senders.json;
//	                        tlsa.json is what is remembered about TLSA records; others.json which names only other hosts want
//	lineages/NAME/GEN/      privkey.pem fullchain.pem cert.pem chain.pem meta.json; revoked.json if it was revoked
//	lineages/NAME/next/     KEY.pem: the private key that follows the current one, if TLSA records name it beforehand
//	lineages/NAME/displaced files that a deployment replaced
//	orders/NAME.KEY.json    an order in flight and its key
//	journal/NAME.*.json     TXT records that may exist
//	daemon.json             what the daemon says about itself; running.yaml is the configuration it works with
//	alarms.json             what people were told, and the messages that wait; alarms.lock is held by the process that sends them
//	lock                    guards accounts while they are changed; usage.lock guards budgets, daemon.lock is the daemon's
//
// Not supported: records of a later version. The package refuses them and does not guess.
package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// Book is what mxcert remembers, in a store.
type Book struct{ store Store }

// New returns the book in a store. It reads and makes nothing.
func New(store Store) *Book { return &Book{store: store} }

// Open returns the book in a store that was just opened, or why it could not be:
//
//	book, err := state.Open(disk.Open("/var/lib/mxcert"))
func Open(store Store, err error) (*Book, error) {
	if err != nil {
		return nil, err
	}
	return New(store), nil
}

// Path returns where the store is on this host; "" for a store without files.
func (b *Book) Path() string { return b.store.Path("") }

// Lock waits until this process alone may change what belongs to no lineage (accounts), or ctx ends (ErrLocked).
func (b *Book) Lock(ctx context.Context) (unlock func(), err error) { return b.store.Lock(ctx, "lock") }

// name returns what messages call a key.
func (b *Book) name(key string) string { return cmp.Or(b.store.Path(key), key) }

// failed returns an error about a key; nil if err is nil.
func (b *Book) failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: b.name(key), Err: err}
}

// renamed describes the operation of a store's error in the words of this package.
func (b *Book) renamed(op, key string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err
	}
	return b.failed(op, key, err)
}

// Lineages names the stored lineages, configured or not, in alphabetical order. Without a store there are none.
func (b *Book) Lineages() ([]string, error) {
	names, err := b.below("lineages")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

// below lists the folders directly below a folder, without the slash.
func (b *Book) below(folder string) ([]string, error) {
	names, err := b.store.List(folder)
	var folders []string
	for _, name := range names {
		if name, isFolder := strings.CutSuffix(name, "/"); isFolder {
			folders = append(folders, name)
		}
	}
	return folders, err
}

// Error is a failure of the store, or of a record in it: what was done where, and why it failed. Path is a file, or the key if
// the store has no files.
type Error struct {
	Op, Path string
	Err      error
}

// Error says what failed.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind returns "locked", "permission", "disk-full" or "fleet-away" (ErrAway) if the cause is one of these, otherwise "state".
func (e *Error) Kind() string {
	switch {
	case errors.Is(e.Err, ErrLocked):
		return "locked"
	case errors.Is(e.Err, fs.ErrPermission):
		return "permission"
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		return "disk-full"
	case errors.Is(e.Err, ErrAway):
		return "fleet-away"
	}
	return "state"
}

// Stage returns the step of a pass to which the failure belongs: "lock", "store" if a change failed, otherwise "state".
func (e *Error) Stage() string {
	switch e.Op {
	case "lock":
		return "lock"
	case "write", "store", "remove", "rename", "set aside", "make":
		return "store"
	}
	return "state"
}

// Temporary reports whether the same may succeed later: when another process is done, or when a shared store can be reached again.
func (e *Error) Temporary() bool { return errors.Is(e.Err, ErrLocked) || errors.Is(e.Err, ErrAway) }

// Hint says what to do.
func (e *Error) Hint() string {
	if cause, ok := e.Err.(interface{ Hint() string }); ok {
		return cause.Hint()
	}
	switch e.Kind() {
	case "locked":
		return "wait until the other process has finished (mxcert status shows what the daemon does), then try again"
	case "permission":
		return "run mxcert as root or as the user that owns the state directory"
	case "disk-full":
		return "make room on the file system of the state directory"
	case "fleet-away":
		return "see mxcert fleet status; mail is served meanwhile as before"
	}
	switch {
	case errors.Is(e.Err, errLater):
		return "install the mxcert that wrote it, or a later one"
	case errors.Is(e.Err, ErrDamaged):
		return "look at it and move it out of the state directory; mxcert makes it again from what else is known, or asks the CA for it"
	}
	if errors.Is(e.Err, errForged) {
		return "look for TXT records below _acme-challenge that remain in DNS, then remove the file"
	}
	return "see the key state of the configuration"
}

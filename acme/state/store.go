package state

import (
	"context"
	"errors"

	"mxcert/acme/finding"
)

// Store keeps values under keys. It is the only contract between what mxcert remembers and where that is kept: a directory
// (acme/state/disk), or a service that several hosts share. acme/state/storetest tests these promises.
//
// # Keys
//
// A key is a relative name with slashes, such as "lineages/mx/record.json", valid by [io/fs.ValidPath] and other than ".".
// An element has at most 255 bytes, none of them zero, and does not begin with ".tmp-", which a store may use itself.
// Everything else is allowed: spaces, other scripts, leading dots. Upper and lower case are different. A method refuses an
// invalid key (fs.ErrInvalid) and does nothing.
//
// A folder is what keys have in common before a slash. It exists because of the keys below it: no method makes a folder. "" is
// the folder of all keys. Callers never use one key for a value and for a folder; what then happens is not specified.
//
// # Values
//
// A value is any bytes, empty ones included, up to 1 MiB; Replace may refuse a larger one. A store neither keeps the slice that it is handed nor changes
// one that it has returned.
//
// Other programs can disturb a store. Whatever they put in the place of a value, Read ends soon and with little memory: if it is
// larger than 1 MiB, or no value at all (a link, a pipe), the error is ErrDamaged. Remove and Rename then act on what has the
// name, not on what it leads to, and Replace puts a value in its place. No such thing keeps a lock from being taken.
//
// # Concurrency
//
// All methods may be called at once from any number of goroutines, processes and, if the store is shared, hosts. Reads and
// writes do not wait for a lock: [Store.Lock] excludes only callers that ask for the same lock.
//
// Every call that starts after a method has returned sees what that method did, in any process.
//
// # Crashes
//
// A process may be killed, and the power may fail, at every instant. Afterwards each change has happened either completely or
// not at all. Only for calls that had not returned, it is open which. Changes that returned without an error stay, in the order
// in which one caller made them. A failed change may have happened: the key has the old value or the new one, and never a part
// of it.
//
// # Errors
//
// Each error is an [*Error] that names the operation and the key in the words of its Path: where a person finds it. A
// caller may test with errors.Is for
//
//   - fs.ErrNotExist: there is no such key
//   - fs.ErrExist: the place is taken (Rename)
//   - fs.ErrInvalid: the key is invalid
//   - fs.ErrPermission: this process may not
//   - ErrDamaged: what has the key is not a value
//   - ErrLocked: the context ended before the lock was free, or a lock was lost
//   - syscall.ENOSPC or syscall.EDQUOT: the store is full
//   - syscall.EROFS: the store accepts no changes
//
// Any other error means that the store is broken or out of reach. The methods without a context end in bounded time:
// a store that asks over a network has a deadline of its own.
type Store interface {
	// Read returns the value of a key: as a whole, the one before or after any Replace or Rename at the same time.
	// fs.ErrNotExist if there is none.
	Read(key string) ([]byte, error)

	// Replace gives a key a value, whether or not it had one.
	//
	// Readers at the same time see the old value or the new one. If several processes replace one key at once, one of
	// the values stays. The value is readable by this user (or whoever owns the store) only, from its first byte on.
	Replace(key string, value []byte) error

	// Remove removes a key, or a folder with everything below it. It is not an error if there is nothing to remove.
	//
	// A folder disappears at once: as soon as one of its keys cannot be read, List of what is above does not show
	// the folder any more, and no crash brings back a part of it. The caller makes sure that no keys are added below it at the
	// same time.
	Remove(key string) error

	// List returns the names directly below a folder, sorted by bytes; to that of a folder it adds a slash. It returns nothing,
	// and no error, for a folder that does not exist. A folder without keys may be listed or not.
	//
	// A name that is there during the whole call is in the list; one that is made or removed meanwhile may be. A list is not a
	// snapshot: reading what it names may fail with fs.ErrNotExist. Locks may be listed or not.
	List(folder string) ([]string, error)

	// Rename gives a value, or a folder with everything below it, another name at once: readers, and a crash, find it whole
	// under the one name or the other. So something that consists of several keys is made below a name that is not looked at,
	// and then renamed.
	//
	// A value replaces the value that has the new name. A folder replaces nothing: if there are keys below the new
	// name, the error is fs.ErrExist. If nothing has the old name, it is fs.ErrNotExist.
	Rename(from, to string) error

	// Lock waits until this caller alone holds the lock of a key, and holds it until unlock is called or the process ends,
	// however it ends: a crash needs no clean-up. Calling unlock again does nothing.
	//
	// It excludes every other caller of Lock and Share with the same key, other goroutines included. A lock is a name in
	// the space of keys, but it has no value: nothing else is stored under it. Callers are not served in the order in which
	// they wait.
	//
	// If ctx ends first, the error is ErrLocked and that of the context. A context that has ended already allows one try.
	//
	// If a store can lose a lock while its holder lives (because a lease expires), it refuses all further changes by this
	// holder until unlock, with ErrLocked.
	Lock(ctx context.Context, key string) (unlock func(), err error)

	// Share is Lock for holders that do not exclude each other, only callers of Lock.
	Share(ctx context.Context, key string) (release func(), err error)

	// Path returns the absolute path of the file that holds a key's value on this host, or of a folder's directory, so
	// that a hook or a person can open it; for "" that of the whole store. The file need not exist, and must not be
	// changed. A store without files returns "".
	Path(key string) string
}

// Housekeeper is what a [Store] may implement in addition, if killed processes leave traces in it, or if other programs can
// disturb it.
type Housekeeper interface {
	// Sweep removes what killed processes have left unfinished directly in a folder. It may be called at any time, together
	// with any other call, and disturbs none of them: it leaves the work of living processes alone.
	Sweep(folder string) error

	// Inspect reports what differs from what the store leaves: traces, wrong owners, files that this process cannot read. It
	// changes nothing. The error is fs.ErrNotExist if there is no store yet, or says why the store cannot be inspected.
	Inspect() ([]finding.Finding, error)
}

// ErrLocked is returned (wrapped) if a lock was not free before the context ended, or was lost.
var ErrLocked = errors.New("another mxcert is at work")

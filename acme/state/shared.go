package state

import (
	"context"
	"errors"
	"time"
)

// Shared is a [Store] that several hosts share, with what they need to agree: revisions, to compare and swap; leases, which end when a host is
// gone; and a watch.
//
// Each call ends when its context does, or after the store's own patience (5 s). A change that this caller makes while it holds a lock
// ([Store.Lock]) is refused with ErrLocked, in the store itself, if that lock is lost. So a caller that was stopped for an hour cannot write
// over what the next holder did: the lock is a fence.
//
// Further errors beside those of Store: [ErrAway] if the store cannot be asked now, [ErrChanged].
type Shared interface {
	Store

	// Get returns one value with its revision. fs.ErrNotExist if there is none.
	Get(ctx context.Context, key string) (Versioned, error)
	// Many returns the values of keys, in their order, from one moment if there are at most 100. A missing one has revision 0.
	Many(ctx context.Context, keys []string) ([]Versioned, error)
	// Below returns all values below a folder, in the order of their keys, from one moment, and the revision of that moment. If they are more
	// than mxcert ever writes (16 MiB), the error is ErrDamaged, and the revision is returned all the same.
	Below(ctx context.Context, folder string) (values []Versioned, revision int64, err error)
	// Swap gives a key a value if its revision is still the given one; 0: if there is no such key. Otherwise the error is ErrChanged. It
	// returns the new revision.
	Swap(ctx context.Context, key string, revision int64, value []byte) (int64, error)
	// Watch calls changed for each change below a folder that is newer than a revision, in their order, until ctx ends or the error is
	// returned. ErrChanged (wrapped) says that changes were lost, because the store has forgotten them: then list the folder again.
	Watch(ctx context.Context, folder string, after int64, changed func([]Versioned)) error

	// Grant makes a lease that ends if it is not renewed for ttl, by the store's clock.
	Grant(ctx context.Context, ttl time.Duration) (lease int64, err error)
	// Renew renews a lease. fs.ErrNotExist if it has ended.
	Renew(ctx context.Context, lease int64) error
	// Lend gives a key a value that is removed when the lease ends.
	Lend(ctx context.Context, key string, value []byte, lease int64) error

	// Holder returns the same store for another holder of locks, with the same connection: its locks are a fence for its own changes alone. So
	// somebody who does two things at once does not lose the one with the lock of the other. Its Close ends its locks and leaves the connection.
	Holder() Shared
	// Strays returns the keys in the place of a lock that no holder has made: somebody has written them by hand, or means harm. They end with no
	// lease of a holder, so what they lock waits until they are removed.
	Strays(ctx context.Context) ([]Stray, error)
	// Identity returns what names the store itself and stays when its members change (etcd: the ID of the cluster).
	Identity(ctx context.Context) (string, error)
	// Close ends all leases of locks, and the connections.
	Close() error
}

// Versioned is a value with its revision: a number of the whole store that grows with each change.
type Versioned struct {
	Key      string
	Value    []byte // nil in a watch if the key was removed
	Revision int64  // of its last change; 0: there is no such key
}

// Stray is a key in the place of a lock.
type Stray struct {
	Lock    string // that waits for it, as in [Store.Lock]
	Key     string // as the store's own tools name it; a stranger may have chosen it
	Removal string // the command of the store's own tools that removes it
}

// ErrAway is returned (wrapped) if a shared store cannot be asked now: it is down, out of reach, or has no quorum.
var ErrAway = errors.New("the store cannot be reached")

// Unasked returns the error of a store that cannot be asked because of err: this host lacks something for it, such as a secret or a file. It says
// what err says, with its hint. Of all that a caller may test for it is ErrAway alone: a file that is missing here is no key that is missing there.
func Unasked(err error) error {
	u := &unasked{text: err.Error()}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		u.hint = h.Hint()
	}
	return u
}

type unasked struct{ text, hint string }

// Error says why.
func (u *unasked) Error() string { return u.text }

// Hint says what to do; "" if err did not.
func (u *unasked) Hint() string { return u.hint }

// Is makes it ErrAway.
func (u *unasked) Is(target error) bool { return target == ErrAway }

// ErrChanged is returned (wrapped) if somebody else was faster.
var ErrChanged = errors.New("it was changed meanwhile")

// Package state is what mxcert remembers: accounts, lineages with their immutable generations, orders in flight, the
// journal of TXT records, backoff.
//
// The store is a directory (default /var/lib/mxcert, mode 0700). Every write is durable before it returns: temporary
// file in the same directory, fsync, rename, fsync of the directory. Everything can be rebuilt from the generations
// and the CA: a record that is missing or damaged is set aside and made again from what the generations say, and the
// caller is told, because a lost note must never be a reason to serve nothing.
//
//	accounts/CA/            account.json, usage.json, lock (shared by who uses the account, see ShareAccount)
//	lineages/NAME/          record.json, lock, one directory a generation
//	lineages/NAME/GEN/      privkey.pem fullchain.pem cert.pem chain.pem meta.json, and revoked.json where it is
//	lineages/NAME/displaced files that a first deployment replaced
//	orders/NAME.KEY.json    an order in flight and its key
//	journal/NAME.*.json     TXT records that may exist
//	lock                    guards what belongs to no lineage
//
// Not supported: a store shared by several hosts.
package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// version is written into every file. A higher one was written by a later mxcert and is refused.
const version = 1

// Dir is the store in a directory.
type Dir struct{ path string }

// Error is a failure of the store: what was done to which file, and why.
type Error struct {
	Op, Path string
	Err      error
}

// Error says what failed.
func (e *Error) Error() string {
	err := e.Err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	if p, ok := errors.AsType[*os.LinkError](err); ok {
		err = p.Err
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind is "locked", "permission" or "disk-full" where the cause is one, otherwise "state".
func (e *Error) Kind() string {
	switch {
	case errors.Is(e.Err, ErrLocked):
		return "locked"
	case errors.Is(e.Err, fs.ErrPermission):
		return "permission"
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		return "disk-full"
	}
	return "state"
}

// Temporary reports whether the same may succeed later: when another process is done.
func (e *Error) Temporary() bool { return errors.Is(e.Err, ErrLocked) }

// Hint says what to do.
func (e *Error) Hint() string {
	switch e.Kind() {
	case "locked":
		return "wait until the other process is done (mxcert status shows what the daemon does), then try again"
	case "permission":
		return "run mxcert as root or as the user that owns the state directory"
	case "disk-full":
		return "make room on the file system of the state directory"
	}
	return "see the key state of the configuration"
}

func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Path: path, Err: err}
}

// Open makes the directory where it is missing and takes wide modes away from it.
//
// A directory that holds something else is refused: with a wrong `state` setting, its mode would be narrowed under
// the feet of others.
func Open(path string) (*Dir, error) {
	if err := checkOurs(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, failed("make state directory", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, failed("look at state directory", path, err)
	}
	if info.Mode().Perm() != 0o700 {
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, failed("narrow the mode of state directory", path, err)
		}
	}
	for _, sub := range []string{"accounts", "lineages", "orders", "journal"} {
		if err := makeDir(filepath.Join(path, sub)); err != nil {
			return nil, err
		}
	}
	d := &Dir{path: path}
	return d, d.renameAccounts()
}

func checkOurs(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("look at state directory", path, err)
	}
	ours := true // an empty one, or one where mxcert was killed when it had hardly begun
	for _, e := range entries {
		if e.Name() == "lineages" || e.Name() == "accounts" {
			return nil
		}
		ours = ours && strings.HasPrefix(e.Name(), temporaryPrefix)
	}
	if ours {
		return nil
	}
	return failed("use as state directory", path, errors.New("there are files in it that are not mxcert's"))
}

// At names a directory without looking at it: what is read from it may be missing.
func At(path string) *Dir { return &Dir{path: path} }

// View opens an existing directory for reading only; nothing is made. The error satisfies errors.Is(fs.ErrNotExist)
// where there is none.
func View(path string) (*Dir, error) {
	if _, err := os.ReadDir(path); err != nil {
		return nil, failed("read state directory", path, err)
	}
	return &Dir{path: path}, nil
}

// Path is the directory.
func (d *Dir) Path() string { return d.path }

// Lock waits until this process alone may change what belongs to no lineage (accounts), or ctx ends.
func (d *Dir) Lock(ctx context.Context) (unlock func(), err error) {
	return lock(ctx, filepath.Join(d.path, "lock"))
}

// lockPoll is how often a held lock is tried again; flock(2) cannot be waited for with a deadline.
const lockPoll = 25 * time.Millisecond

// ErrLocked is returned (wrapped) when a lock could not be had before the context ended.
var ErrLocked = errors.New("another mxcert is at work")

// lock keeps all others out.
func lock(ctx context.Context, path string) (func(), error) { return flock(ctx, path, syscall.LOCK_EX) }

// flock takes an advisory flock(2), LOCK_EX or LOCK_SH. The kernel releases it when the process dies, however it dies.
// The file stays.
func flock(ctx context.Context, path string, how int) (func(), error) {
	file, err := openLock(path)
	if err != nil {
		return nil, failed("open lock", path, err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, failed("lock", path, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, &Error{Op: "lock", Path: path, Err: fmt.Errorf("%w (%w)", ErrLocked, ctx.Err())}
		case <-time.After(lockPoll):
		}
	}
}

// openLock opens a lock file, and makes it where it is missing. A new one gets its name when its owner is right, and never
// takes the place of another, which may be held.
func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	made, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix+"*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(made.Name())
	if err := errors.Join(settle(made, 0o600), made.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(made.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

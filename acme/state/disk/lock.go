package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mxcert/acme/state"
)

// lockPoll is how often a held lock is tried again; flock(2) cannot wait with a deadline.
const lockPoll = 25 * time.Millisecond

// Lock takes an exclusive flock(2).
func (s *Store) Lock(ctx context.Context, key string) (unlock func(), err error) {
	return s.flock(ctx, key, syscall.LOCK_EX)
}

// Share takes a shared flock(2).
func (s *Store) Share(ctx context.Context, key string) (release func(), err error) {
	return s.flock(ctx, key, syscall.LOCK_SH)
}

func (s *Store) flock(ctx context.Context, key string, how int) (func(), error) {
	path, err := s.file(key)
	if err != nil {
		return nil, failed("lock", path, err)
	}
	for {
		file, err := tryLock(path, how)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, failed("lock", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, failed("lock", path, fmt.Errorf("%w (%w)", state.ErrLocked, ctx.Err()))
		case <-time.After(lockPoll):
		}
	}
}

// tryLock opens and locks a lock's file. EWOULDBLOCK: another holder has it.
func tryLock(path string, how int) (*os.File, error) {
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// openLock opens a lock's file, and creates it if it is missing. It sets aside what has its name and is no file.
func openLock(path string) (file *os.File, err error) {
	err = persist(filepath.Dir(path), func() error {
		file, _, err = open(path, os.O_RDWR)
		if _, odd := errors.AsType[errNoFile](err); odd {
			if err = setAside(path); err == nil {
				err = fs.ErrNotExist
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			file, err = makeLock(path)
		}
		return err
	})
	return file, err
}

// makeLock makes a lock's file, locked. The file gets its name when it is locked, and never replaces another one, which may be
// locked.
func makeLock(path string) (*os.File, error) {
	file, err := temporary(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	err = os.Link(file.Name(), path)
	_ = os.Remove(file.Name())
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, fs.ErrExist) {
		file, _, err = open(path, os.O_RDWR)
		return file, err
	}
	return nil, err
}

package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// temporaryPrefix starts the names of files and directories that are not finished yet, or about to be removed.
const temporaryPrefix = ".tmp-"

// Replace writes a file.
func (s *Store) Replace(key string, value []byte) error {
	path, err := s.file(key)
	if err == nil {
		err = persist(filepath.Dir(path), func() error { return replace(path, value) })
	}
	return failed("write", path, err)
}

func replace(path string, value []byte) error {
	dir := filepath.Dir(path)
	file, err := temporary(dir)
	if err != nil {
		return err
	}
	defer file.Close() // this also releases the lock
	_, err = file.Write(value)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) { // a directory has the name
		if err = setAside(path); err == nil {
			err = os.Rename(file.Name(), path)
		}
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return err
	}
	return syncDir(dir)
}

// persist repeats work in a directory while something is missing: the directory, which it makes, or a file that work has just
// made, if a sweep removed it before it was locked.
func persist(dir string, work func() error) error {
	err := work()
	for range 1000 { // one sweep can cost one round; a bound, because a directory may be missing for good
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := makeDir(dir); err != nil {
			return err
		}
		err = work()
	}
	return err
}

// temporary makes an empty file that this process has locked, with its final mode. fs.ErrNotExist if a sweep was faster.
func temporary(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, temporaryPrefix+"*")
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = file.Chmod(0o600) // whatever the umask
	}
	if err != nil {
		_ = os.Remove(file.Name())
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// makeDir makes a directory, and those above it, durably.
func makeDir(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return failed("make", path, persist(filepath.Dir(path), func() error { return makeOnce(path) }))
}

func makeOnce(path string) error {
	above := filepath.Dir(path)
	temporary, err := os.MkdirTemp(above, temporaryPrefix+"*")
	if err != nil {
		return err
	}
	if err = os.Chmod(temporary, 0o700); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was first
	}
	if err == nil {
		err = syncDir(above)
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Rename renames a file or a directory.
func (s *Store) Rename(from, to string) error {
	old, err := s.file(from)
	if err != nil {
		return failed("rename", old, err)
	}
	path, err := s.file(to)
	if err != nil {
		return failed("rename", path, err)
	}
	err = os.Rename(old, path)
	if errors.Is(err, fs.ErrNotExist) && exists(old) {
		if err = makeDir(filepath.Dir(path)); err == nil {
			err = os.Rename(old, path)
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err == nil && filepath.Dir(old) != filepath.Dir(path) {
		err = syncDir(filepath.Dir(old))
	}
	return failed("rename", old, err)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Remove removes a file or a directory.
func (s *Store) Remove(key string) error {
	path, err := s.file(key)
	if err != nil {
		return failed("remove", path, err)
	}
	err = os.Remove(path)
	switch {
	case err == nil:
		err = syncDir(filepath.Dir(path))
	case errors.Is(err, fs.ErrExist): // a directory that is not empty
		err = removeTree(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failed("remove", path, err)
}

// removeTree hides a directory for good, before it removes its files one after the other.
func removeTree(path string) error {
	above := filepath.Dir(path)
	aside := filepath.Join(above, temporaryPrefix+unique())
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	return errors.Join(syncDir(above), os.RemoveAll(aside))
}

// unique returns a part of a name that no other file has.
func unique() string {
	return strconv.FormatUint(rand.Uint64(), 36) //nolint:gosec // it need not be secret
}

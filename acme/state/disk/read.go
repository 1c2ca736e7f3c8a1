package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mxcert/acme/state"
)

// maxValue is the size of the largest value in bytes.
const maxValue = 1 << 20

// errNoFile is the cause if something that is not a regular file has the name of one.
type errNoFile struct{ mode fs.FileMode }

// Error says what it is.
func (e errNoFile) Error() string {
	kind := "a device"
	switch e.mode.Type() {
	case fs.ModeSymlink:
		kind = "a symbolic link"
	case fs.ModeDir:
		kind = "a directory"
	case fs.ModeNamedPipe:
		kind = "a pipe"
	case fs.ModeSocket:
		kind = "a socket"
	}
	return fmt.Sprintf("%v: it is %s, not a regular file", state.ErrDamaged, kind)
}

// Is makes it a damaged file.
func (e errNoFile) Is(target error) bool { return target == state.ErrDamaged }

// open opens a regular file, and nothing else: a device may act when it is opened. It follows no link and does not wait for the
// other end of a pipe, whenever it appears.
func open(path string, flag int) (*os.File, fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile{info.Mode()}
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile{info.Mode()}
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// read reads a regular file of at most maxValue bytes.
func read(path string) ([]byte, error) {
	file, info, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var value bytes.Buffer
	value.Grow(int(min(info.Size(), maxValue)) + bytes.MinRead) // so that it never grows again
	_, err = value.ReadFrom(io.LimitReader(file, maxValue+1))
	if err == nil && value.Len() > maxValue {
		err = fmt.Errorf("%w: it is larger than %d MiB", state.ErrDamaged, maxValue>>20)
	}
	if err != nil {
		return nil, err
	}
	return value.Bytes(), nil
}

// readDir reads a directory, in the order of the names. Flag is syscall.O_NOFOLLOW if the path must not be a link.
func readDir(path string, flag int) ([]fs.DirEntry, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|flag, 0) // a pipe is no directory, so this does not wait for one
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// setAside renames what has the name of a file and is none. Under the lock of the directory, no process renames a file that
// another one has just made there. EWOULDBLOCK: another process keeps that lock.
func setAside(path string) error {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = syscall.EWOULDBLOCK
	for try := 0; try < 40 && errors.Is(err, syscall.EWOULDBLOCK); try++ {
		if try > 0 {
			time.Sleep(lockPoll)
		}
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().IsRegular() {
		return ignoreGone(err)
	}
	if err := os.Rename(path, path+".damaged-"+unique()); err != nil {
		return err
	}
	return dir.Sync()
}

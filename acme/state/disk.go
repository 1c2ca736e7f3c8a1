package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrDamaged is returned (wrapped) for a file that is not what mxcert writes.
var ErrDamaged = errors.New("the file is damaged")

// readJSON reads a state file into v. A file of a later version is an error that names it; a damaged one gives
// ErrDamaged.
func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return failed("read", path, err)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Version < 1 {
		return failed("read", path, ErrDamaged)
	}
	if head.Version > version {
		return failed("read", path, fmt.Errorf("it has version %d, this mxcert knows up to %d: a later mxcert wrote it", head.Version, version))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return failed("read", path, ErrDamaged)
	}
	return nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return failed("encode", path, err)
	}
	return writeFile(path, append(text, '\n'))
}

// writeFile replaces path durably: after it returns the content survives a power cut, and before that the old
// content does.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, temporaryPrefix+filepath.Base(path)+"~*") // whose it is tells who may remove it
	if err != nil {
		return failed("write", path, err)
	}
	defer os.Remove(file.Name()) // after the rename there is nothing to remove
	if err = settle(file, 0o600); err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return failed("write", path, err)
}

// temporaryPrefix begins the names of files and directories that a killed process may leave; Prune removes them.
const temporaryPrefix = ".tmp-"

// makeDir makes a directory, and those above it, durably. It appears under its name with its mode and owner, because a
// directory of root's, left by a command that was killed, would keep the service out for good. Another process may take it
// for a leftover before it has its name (sweep): it is made again then.
func makeDir(path string) (err error) {
	for range 10 {
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		if err = makeOnce(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if _, named := errors.AsType[*Error](err); named {
		return err // of a directory above
	}
	return failed("make", path, err)
}

func makeOnce(path string) error {
	above := filepath.Dir(path)
	if _, err := os.Lstat(above); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	temporary, err := os.MkdirTemp(above, temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary) // after the rename there is nothing to remove
	if err = settleDir(temporary); err == nil {
		err = os.Rename(temporary, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was first
	}
	if err == nil {
		err = syncDir(above)
	}
	return err
}

// settleDir works on a descriptor as root, because the owner of the directory above could put a link in its place.
func settleDir(path string) error {
	if os.Geteuid() != 0 {
		return os.Chmod(path, 0o700)
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return settle(dir, 0o700)
}

// settle gives what was just made its mode, whatever the umask. What root makes belongs to the owner of the directory
// it is in, so that a command that is run as root leaves nothing that the service cannot read.
func settle(file *os.File, mode fs.FileMode) error {
	if os.Geteuid() == 0 {
		info, err := os.Stat(filepath.Dir(file.Name()))
		if err != nil {
			return err
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
			if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
	}
	return file.Chmod(mode)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

const damagedSuffix = ".damaged"

// setAside keeps a damaged file under another name and gives that name, "" where the file cannot be renamed by this
// user or on this file system.
func setAside(path string) (string, error) {
	aside := path + damagedSuffix
	err := os.Rename(path, aside)
	switch {
	case err == nil:
		return filepath.Base(aside), nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "", nil
	}
	return "", failed("set aside", path, err)
}

// removeFile removes a file durably; one that is already gone is fine.
func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return failed("remove", path, err)
}

package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces a file at one stroke: at every instant, and after a power cut, path has the old text or all of the new one.
// mode counts whatever the umask. uid and gid of -1 leave owner and group as a new file has them. A symbolic link at path is
// replaced, not followed.
func WriteFile(path, text string, mode fs.FileMode, uid, gid int) error {
	temporary := path + ".new" // a name that polkitd, Exim's run-parts and mxcert's conf.d pass over
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(file, text, mode, uid, gid), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return syncDirectory(filepath.Dir(path))
}

// fill sets owner and mode before there is anything to read.
func fill(file *os.File, text string, mode fs.FileMode, uid, gid int) error {
	if err := file.Chown(uid, gid); err != nil {
		return err
	}
	if err := file.Chmod(mode); err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	return file.Sync()
}

// syncDirectory makes a rename in a directory durable.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

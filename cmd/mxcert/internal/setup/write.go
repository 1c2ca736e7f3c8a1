package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces a file atomically: at every instant, and after a power cut, path has the old text or all of the new one.
// It sets mode despite the umask. If uid or gid is -1, owner or group are those of any new file. It replaces a symbolic link at
// path, and does not follow it.
func WriteFile(path, text string, mode fs.FileMode, uid, gid int) error {
	temporary := path + ".new" // polkitd, Exim's run-parts and mxcert's conf.d ignore this name
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

// fill sets owner and mode before it writes the text, so that nobody else can read it.
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

// syncDirectory makes sure that a rename in a directory survives a power cut.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

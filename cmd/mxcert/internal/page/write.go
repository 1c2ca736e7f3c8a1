package page

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// fileMode is the mode of a new page. A page names hosts and faults, so it is not for everybody: give the directory to the group of the web
// server, with the set-group-ID bit.
const fileMode = 0o640

// Write replaces a file with what fill writes, at once: a reader finds the old page or the new one, whole. A replaced file keeps its mode and,
// as far as this process may give it, its owner and group; a new one gets mode 0640. A link to a file is replaced, not followed. A device or a
// pipe, also one behind a link, is refused: root would take /dev/null or /dev/stdout away from every program of the host.
func Write(path string, fill func(io.Writer) error) error {
	var content bytes.Buffer
	if err := fill(&content); err != nil {
		return err
	}
	before, err := os.Lstat(path)
	if err == nil {
		if err := replaceable(path, before); err != nil {
			return &writeError{path, err}
		}
	}
	if err := replace(path, content.Bytes(), before); err != nil {
		return &writeError{path, err}
	}
	return nil
}

// errSpecial refuses what is no file.
var errSpecial = errors.New("it is a device, a pipe or a socket")

// replaceable refuses what a file must not take the place of.
func replaceable(path string, before fs.FileInfo) error {
	if before.Mode().Type() == fs.ModeSymlink {
		if target, _ := os.Readlink(path); strings.HasPrefix(target, "/proc/") {
			return errSpecial // /dev/stdout
		}
		after, err := os.Stat(path)
		if err != nil {
			return nil //nolint:nilerr // it leads nowhere
		}
		before = after
	}
	switch {
	case before.IsDir():
		return syscall.EISDIR
	case !before.Mode().IsRegular():
		return errSpecial
	}
	return nil
}

// replace writes a file beside path, and gives it that name. before is what is there; nil if nothing is.
func replace(path string, content []byte, before fs.FileInfo) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	mode := fs.FileMode(fileMode)
	if before != nil && before.Mode().IsRegular() {
		mode = before.Mode().Perm()
		if owner, ok := before.Sys().(*syscall.Stat_t); ok {
			_ = file.Chown(-1, int(owner.Gid)) // only root may always
			_ = file.Chown(int(owner.Uid), -1)
		}
	}
	_, err = file.Write(content)
	// Not synced: the next pass makes the page again, and a disk that hangs would hold up the last words of the daemon.
	if err = errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// writeError says that a page could not be written, and what to do.
type writeError struct {
	path string
	err  error
}

// Error names the file.
func (e *writeError) Error() string {
	cause := e.err
	if path, ok := errors.AsType[*fs.PathError](e.err); ok {
		cause = path.Err // its path is that of a temporary file
	}
	if link, ok := errors.AsType[*os.LinkError](e.err); ok {
		cause = link.Err
	}
	return fmt.Sprintf("%s cannot be written: %v", e.path, cause)
}

// Unwrap returns the cause.
func (e *writeError) Unwrap() error { return e.err }

// Hint says what to do.
func (e *writeError) Hint() string {
	directory := filepath.Dir(e.path)
	switch {
	case errors.Is(e.err, fs.ErrNotExist):
		return fmt.Sprintf("make the directory: install -d -o mxcert -g GROUP -m 2750 %s, with the group that may read the page", directory)
	case errors.Is(e.err, syscall.EROFS):
		return fmt.Sprintf("the service may not write there: add ReadWritePaths=-%s to its [Service] section (systemctl edit mxcert), then systemctl restart mxcert", directory)
	case errors.Is(e.err, fs.ErrPermission):
		return fmt.Sprintf("give the directory %s to the user that writes the page: chown mxcert %s", directory, directory)
	case errors.Is(e.err, syscall.ENOSPC), errors.Is(e.err, syscall.EDQUOT):
		return "make room on the disk"
	case errors.Is(e.err, syscall.EISDIR):
		return "name a file in that directory"
	case errors.Is(e.err, errSpecial):
		return "name a file, or - for standard output"
	}
	return ""
}

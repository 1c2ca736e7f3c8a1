// Package disk is the store in a directory: [state.Store] with a file for each value and a directory for each folder, so that
// hooks, mail servers and people read the values as files. state.Store makes the promises; this comment says how this package
// keeps them.
//
// A write makes a temporary file in the same directory, gives it its mode before content, syncs it, renames it and syncs the
// directory. It makes a directory under a temporary name, too, so that a process that is killed leaves none with another mode. It
// removes a folder under a temporary name. Locks are flock(2): the kernel releases them when the process dies, however it dies.
// The lock's file stays.
//
// A read accepts only a regular file of at most 1 MiB. It follows no link and waits for no pipe that another program has put
// there. If something else has the name of a lock, or a directory that of a value, it gets the name NAME.damaged-…, and the work
// goes on.
//
// Directories have mode 0700 and files 0600, whatever the umask. They belong to the user of the process. [Open] and [View] refuse
// root a directory of another user: root would leave files that the owner cannot read, and the owner could choose with a link
// which files root reads, replaces or removes.
//
// A process that makes a temporary file holds a flock on it until the file has its name. So [Store.Sweep] knows, without a
// clock, what a killed process has left and what a living one is writing.
//
// Not supported: several hosts on one network file system, and file systems without flock, link or atomic rename.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mxcert/acme/state"
)

// Store is a directory. It fulfils [state.Store] and [state.Housekeeper].
type Store struct{ root string }

var (
	_ state.Store       = (*Store)(nil)
	_ state.Housekeeper = (*Store)(nil)
)

// Either of these shows that a directory is mxcert's.
const accounts, lineages = "accounts", "lineages"

// Open makes the directory if it is missing and narrows its mode to 0700.
//
// It refuses a directory that holds something else: with a wrong `state` setting, narrowing the mode would lock other programs
// out.
func Open(path string) (*Store, error) {
	if err := checkOwner(path); err != nil {
		return nil, err
	}
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
	for _, folder := range []string{accounts, lineages, "orders", "journal"} {
		if err := makeDir(filepath.Join(path, folder)); err != nil {
			return nil, err
		}
	}
	return &Store{root: path}, nil
}

// checkOwner refuses root a directory of another user.
func checkOwner(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil //nolint:nilerr // it is missing, or what comes next fails, too
	}
	if user := owner(info); user != 0 {
		return failed("use state directory", path, foreignError{path, user})
	}
	return nil
}

// foreignError is the cause if root would have to work in a directory of another user.
type foreignError struct {
	path string
	user int
}

// Error says whose directory it is.
func (e foreignError) Error() string {
	return fmt.Sprintf("it belongs to user %d, and root does not work in a directory of another user", e.user)
}

// Hint says what to do.
func (e foreignError) Hint() string {
	return fmt.Sprintf("run it as user %d; or, if no service uses the directory, give it to root: chown -R root: %s", e.user, e.path)
}

// Is makes it a lack of permission.
func (e foreignError) Is(target error) bool { return target == fs.ErrPermission }

func checkOurs(path string) error {
	entries, err := readDir(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("look at state directory", path, err)
	}
	ours := true // it may be empty, or mxcert may have been killed right at the start
	for _, e := range entries {
		if e.Name() == accounts || e.Name() == lineages {
			return nil
		}
		ours = ours && strings.HasPrefix(e.Name(), temporaryPrefix)
	}
	if ours {
		return nil
	}
	return failed("use as state directory", path, errors.New("there are files in it that are not mxcert's"))
}

// View is for readers: it makes nothing. The error is fs.ErrNotExist if the directory does not exist.
func View(path string) (*Store, error) {
	if err := checkOwner(path); err != nil {
		return nil, err
	}
	if _, err := readDir(path, 0); err != nil {
		return nil, failed("read state directory", path, err)
	}
	return At(path), nil
}

// At names a directory without looking at it. It may be missing: then there are no keys.
func At(path string) *Store { return &Store{root: path} }

// Path returns the file of a key.
func (s *Store) Path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

// file returns the file of a valid key.
func (s *Store) file(key string) (string, error) {
	if !fs.ValidPath(key) || key == "." || strings.ContainsRune(key, 0) {
		return key, fs.ErrInvalid
	}
	if strings.HasPrefix(key, temporaryPrefix) || strings.Contains(key, "/"+temporaryPrefix) {
		return key, fs.ErrInvalid
	}
	return s.Path(key), nil
}

// entries reads the directory of a valid folder. Only the state directory itself may be a link.
func (s *Store) entries(folder string) (path string, entries []fs.DirEntry, err error) {
	if folder == "" {
		entries, err = readDir(s.root, 0)
		return s.root, entries, err
	}
	if path, err = s.file(folder); err == nil {
		entries, err = readDir(path, syscall.O_NOFOLLOW)
	}
	return path, entries, err
}

// Read reads a regular file of at most 1 MiB.
func (s *Store) Read(key string) ([]byte, error) {
	path, err := s.file(key)
	if err != nil {
		return nil, failed("read", path, err)
	}
	value, err := read(path)
	return value, failed("read", path, err)
}

// List reads a directory. Temporary files are not listed.
func (s *Store) List(folder string) ([]string, error) {
	path, entries, err := s.entries(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("read", path, err)
	}
	var names []string
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), temporaryPrefix):
		case e.IsDir():
			names = append(names, e.Name()+"/")
		default:
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// failed names the operation and the file, once. It drops what the system's own errors say about files, which may be temporary
// ones. It returns nil if err is nil.
func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, named := errors.AsType[*state.Error](err); named {
		return err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		err = l.Err
	}
	return &state.Error{Op: op, Path: path, Err: err}
}

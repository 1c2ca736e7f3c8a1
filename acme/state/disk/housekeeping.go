package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mxcert/acme/finding"
)

// writing is how long it takes at most to write a file that this process may not open.
const writing = time.Hour

// Sweep removes temporary files that no process has locked, and temporary directories. A temporary directory that is being made
// is empty, and its maker makes it again; all others are being removed.
func (s *Store) Sweep(folder string) error {
	path, entries, err := s.entries(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	problems := []error{failed("read", path, err)}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporaryPrefix) {
			left := filepath.Join(path, e.Name())
			problems = append(problems, failed("remove", left, sweep(left, e)))
		}
	}
	return errors.Join(problems...)
}

func sweep(path string, entry fs.DirEntry) error {
	if entry.Type().IsRegular() {
		done, err := isLeft(path, entry)
		if err != nil || !done {
			return err
		}
	}
	return os.RemoveAll(path)
}

// isLeft reports whether no process writes a temporary file any longer.
func isLeft(path string, entry fs.DirEntry) (bool, error) {
	info, err := entry.Info()
	if err != nil {
		return false, ignoreGone(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return true, nil // a lock's file that has its name already, and may be locked under this name
	}
	file, _, err := open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrPermission) { // it has not got its mode yet, whatever the umask, or another user has made it
		return time.Since(info.ModTime()) >= writing, nil
	}
	if err != nil {
		return false, ignoreGone(err)
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Inspect reports temporary files, files whose owner is not the directory's, what this process cannot read, and a mode of the
// directory that is too wide.
func (s *Store) Inspect() ([]finding.Finding, error) {
	top, err := os.Stat(s.root)
	if err != nil {
		return nil, failed("look at state directory", s.root, err)
	}
	var found []finding.Finding
	if mode := top.Mode().Perm(); mode&0o077 != 0 {
		found = append(found, finding.New("state-mode", finding.Warning, "its mode is %04o: other users can look into it", mode).About(s.root).
			Next("the next renewal sets 0700"))
	}
	err = filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err == nil:
			found = append(found, s.inspect(path, entry, owner(top))...)
		case path == s.root:
			return err
		case !errors.Is(err, fs.ErrNotExist): // it has just gone
			found = append(found, finding.New("state-unreadable", finding.Error, "it cannot be read: %v", cause(err)).About(path).
				Next("run doctor as root or as the user that owns the state directory"))
		}
		return nil
	})
	return found, failed("look at state directory", s.root, err)
}

// inspect looks at one file or directory of a store that belongs to a user.
func (s *Store) inspect(path string, entry fs.DirEntry, user int) (found []finding.Finding) {
	info, err := entry.Info()
	if err != nil {
		return nil // it has just gone
	}
	if is := owner(info); is != user {
		f := finding.New("state-owner", finding.Warning, "it belongs to user %d, the state directory to user %d", is, user).About(path).
			Next(fmt.Sprintf("chown -R %d %s", user, s.root))
		if user != 0 {
			f.Severity = finding.Error // the service cannot use it
		}
		found = append(found, f)
	}
	if !entry.IsDir() && strings.HasPrefix(entry.Name(), temporaryPrefix) {
		found = append(found, finding.New("state-left", finding.Warning, "a killed process has left it").About(path).
			Next("the next pass removes it, or you can"))
	}
	return found
}

func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// cause returns an error without the path.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

package deploy

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// snapshot is a file as it was found.
type snapshot struct {
	content []byte
	access  Access

	link  string               // it is a symbolic link that leads there
	files map[string]*snapshot // the files of the generation that it leads to
}

// maxFile limits how much is read of a file that should be a certificate or a key.
const maxFile = 1 << 20

// look reads the file at a path. It returns nil if there is none.
func (t Target) look(root *os.Root, dir, name string) (*snapshot, error) {
	path := filepath.Join(dir, name)
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "look at", Path: path, Err: err}
	}
	if err := t.acceptable(info); err != nil {
		return nil, &Error{Op: "replace", Path: path, Err: err}
	}
	old, err := read(root, name, info)
	if err != nil {
		return nil, &Error{Op: "read", Path: path, Err: err}
	}
	return old, nil
}

// acceptable refuses files that must not be replaced.
func (t Target) acceptable(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return errSymlink
	case !info.Mode().IsRegular() || !ok:
		return errNotRegular
	case stat.Nlink > 1:
		return errHardLink
	case info.Size() > maxFile:
		return errTooLarge
	case t.Owner == "" && !t.trusts(int(stat.Uid)):
		return foreign("it", int(stat.Uid))
	}
	return nil
}

// read reads the file that Lstat has seen. If another file has taken its place, read does not follow it if it is a link, and does not wait
// for it if it is a pipe.
func read(root *os.Root, name string, seen fs.FileInfo) (*snapshot, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !os.SameFile(info, seen) {
		err = errChanging
	}
	if err != nil {
		return nil, err
	}
	s := &snapshot{}
	var ok bool
	if s.access, ok = accessOf(info); !ok {
		return nil, errNotRegular
	}
	if s.content, err = io.ReadAll(io.LimitReader(file, maxFile)); err != nil {
		return nil, err
	}
	s.access.labels, err = readLabels(file)
	return s, err
}

// open opens the directory of a destination and checks who may write there.
func (t Target) open(dir string) (*os.Root, error) {
	seen, err := t.refuseDistrusted(dir)
	if err != nil {
		return nil, wrap("open directory", filepath.Clean(dir), err)
	}
	root, err := t.openWay(dir)
	if err != nil {
		return nil, &Error{Op: "open directory", Path: filepath.Clean(dir), Err: err}
	}
	info, err := root.Stat(".") // of the opened directory, not of what is at the path now
	if err == nil && seen != nil && !os.SameFile(seen, info) {
		err = errChanging
	}
	if err == nil {
		err = t.trustsDirectory(info)
	}
	if err != nil {
		_ = root.Close()
		return nil, &Error{Op: "write into", Path: filepath.Clean(dir), Err: err}
	}
	return root, nil
}

// trustsDirectory refuses a directory where others could create a file. The sticky bit is not enough, because others could create a file
// there before mxcert does.
func (t Target) trustsDirectory(info fs.FileInfo) error {
	of, ok := accessOf(info)
	switch {
	case info.Mode().Perm()&0o002 != 0:
		return errWorldWritable
	case ok && !t.trusts(of.UID):
		return foreign("the directory", of.UID)
	}
	return nil
}

// checkWay checks the directories that lead to a destination. Whoever may write into one of them can replace the next, unless a sticky bit
// (as on /tmp) prevents it. checkWay follows links on the way, and checks the directories that they lead through, too.
func checkWay(dir string) error {
	target, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return &Error{Op: "open directory", Path: filepath.Clean(dir), Err: err}
	}
	ways := []string{filepath.Clean(dir)}
	if target != ways[0] {
		ways = append(ways, target)
	}
	for _, way := range ways {
		for up := filepath.Dir(way); up != filepath.Dir(up); up = filepath.Dir(up) {
			info, err := os.Stat(up)
			if err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
				err = errWorldWritable
			}
			if err != nil {
				return &Error{Op: "write below", Path: up, Err: err}
			}
		}
	}
	return nil
}

package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check finds out whether the targets could be written, and writes nothing. It looks at directories, at what lies at the paths, at users
// and groups, permissions and free space. remembered is the same as for [Make]. It reports all problems together, as *Error.
func Check(targets []Target, remembered map[string]Access) error {
	var problems []error
	roomy := map[string]bool{}
	for _, t := range targets {
		for _, f := range t.checked() {
			err := f.check(remembered)
			if dir := filepath.Dir(f.path); err == nil && !roomy[dir] {
				roomy[dir] = true
				err = wrap("write into", dir, checkRoom(dir))
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// checked lists what a deployment will write in the directories of a target.
func (t Target) checked() []file {
	list := t.files(nil)
	if path := t.mapPath(); path != "" {
		list = append(list, file{path: path, target: t})
	}
	list = append(list, t.stapleFiles(nil)...)
	if t.Directory != "" {
		list = append(list, file{path: t.Directory, target: t, link: "any generation"})
	}
	return list
}

func (f file) check(remembered map[string]Access) error {
	dir, name := filepath.Split(f.path)
	root, err := f.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := checkWay(dir); err != nil {
		return err
	}
	writable := []string{filepath.Clean(dir)}
	var old *snapshot
	if f.link != "" {
		if old, err = f.target.lookThrough(root, name); old != nil {
			writable = append(writable, f.path+generationsSuffix)
		}
	} else {
		old, err = f.target.look(root, dir, name)
	}
	if err != nil {
		return err
	}
	want, err := f.wanted(root, old, remembered)
	if err == nil && f.link != "" {
		err = f.target.refuseGiving(want.made(root).searchable())
	}
	if err == nil {
		err = want.permitted(root)
	}
	if err != nil {
		return &Error{Op: "write", Path: f.path, Err: err}
	}
	for _, path := range writable {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return &Error{Op: "write into", Path: path, Err: err}
		}
	}
	return nil
}

// This is the space that a deployment may need in a directory for a while. Certificates and keys have a few kilobytes. Each of them
// occupies whole blocks of the file system, and is there twice. The inodes are for the files and the staging directory.
const (
	room       = 64 << 10
	roomInodes = 8
)

// checkRoom finds a full file system before mxcert places an order.
func checkRoom(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err
	}
	free := stat.Bavail
	if os.Geteuid() == 0 {
		free = stat.Bfree // the file system reserves some blocks for root
	}
	if bytes := free * uint64(stat.Bsize); stat.Blocks > 0 && bytes < room {
		return fmt.Errorf("%d KiB are free, and a deployment may need %d: %w", bytes>>10, room>>10, unix.ENOSPC)
	}
	if stat.Files > 0 && stat.Ffree < roomInodes {
		return fmt.Errorf("%d inodes are free, and a deployment may need %d: %w", stat.Ffree, roomInodes, unix.ENOSPC)
	}
	return nil
}

package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check looks whether the targets could be written, without writing: directories, what lies at the paths, users and
// groups, permission, room. All problems are reported at once, as *Error.
func Check(targets []Target) error {
	var problems []error
	roomy := map[string]bool{}
	for _, t := range targets {
		for _, i := range []item{
			{path: t.Certificate}, {path: t.PrivateKey, secret: true}, {path: t.Combined, secret: true}, {path: t.mapPath()}, {path: t.Directory, link: "to be made"},
		} {
			if i.target = t; i.path == "" {
				continue
			}
			err := i.check()
			if dir := filepath.Dir(i.path); err == nil && !roomy[dir] {
				roomy[dir] = true
				err = wrap("write into", dir, checkRoom(dir))
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (i item) check() error {
	dir, name := filepath.Split(i.path)
	root, err := i.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := checkWay(dir); err != nil {
		return err
	}
	writable := []string{filepath.Clean(dir)}
	var old *snapshot
	if i.link != "" {
		if old, err = i.lookThrough(root, name); old != nil {
			writable = append(writable, i.path+generationsSuffix)
		}
	} else {
		old, err = i.look(root, dir, name)
	}
	if err != nil {
		return err
	}
	want, err := wanted(i, root, old)
	if err == nil {
		err = want.permitted(root)
	}
	if err != nil {
		return &Error{Op: "write", Path: i.path, Err: err}
	}
	for _, path := range writable {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return &Error{Op: "write into", Path: path, Err: err}
		}
	}
	return nil
}

// room is what a deployment may need in a directory for a while: certificates and keys of a few kilobytes, each in the
// blocks of a file system and twice. Inodes are for the files and the staging directory.
const (
	room       = 64 << 10
	roomInodes = 8
)

// checkRoom finds a full file system before an order is placed.
func checkRoom(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err
	}
	free := stat.Bavail
	if os.Geteuid() == 0 {
		free = stat.Bfree // some blocks are kept for root
	}
	if bytes := free * uint64(stat.Bsize); stat.Blocks > 0 && bytes < room {
		return fmt.Errorf("%d KiB are free, and a deployment may need %d: %w", bytes>>10, room>>10, unix.ENOSPC)
	}
	if stat.Files > 0 && stat.Ffree < roomInodes {
		return fmt.Errorf("%d inodes are free, and a deployment may need %d: %w", stat.Ffree, roomInodes, unix.ENOSPC)
	}
	return nil
}

package deploy

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check looks whether the targets could be written, without writing: directories, what lies at the paths, users and
// groups, permission. All problems are reported at once, as *Error.
func Check(targets []Target) error {
	var problems []error
	for _, t := range targets {
		for _, i := range []item{{path: t.Certificate}, {path: t.PrivateKey, secret: true}, {path: t.Combined, secret: true}} {
			if i.target = t; i.path != "" {
				problems = append(problems, i.check())
			}
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
	old, err := i.look(root, dir, name)
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
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &Error{Op: "write into", Path: filepath.Clean(dir), Err: err}
	}
	return nil
}

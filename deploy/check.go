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
		for _, path := range []string{t.Certificate, t.PrivateKey, t.Combined} {
			if path != "" {
				problems = append(problems, checkPath(t, path))
			}
		}
	}
	return errors.Join(problems...)
}

func checkPath(t Target, path string) error {
	dir, name := filepath.Split(path)
	root, err := openDirectory(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := look(root, dir, name)
	if err != nil {
		return err
	}
	want, err := wanted(t, root, old)
	if err == nil {
		err = want.permitted(root)
	}
	if err != nil {
		return &Error{Op: "write", Path: path, Err: err}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &Error{Op: "write into", Path: filepath.Clean(dir), Err: err}
	}
	return nil
}

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reader is the user who opens a mail server's files.
type reader struct{ account }

// Readable checks whether a user, by name or number, could open the files of the targets as a deployment will leave them. It looks at each
// file and each directory on the way. It does not evaluate access lists (acl(5)); a path that has one counts as readable. remembered is the
// same as for [Make]. The error is an *Error for each path.
func Readable(name string, targets []Target, remembered map[string]Access) error {
	r, err := findReader(name)
	if err != nil {
		return err
	}
	var problems []error
	for _, t := range targets {
		files := t.files(nil)
		if t.Directory != "" {
			files = append(files, t.generation(nil, filepath.Join(t.Directory+generationsSuffix, "new"))[0])
		}
		files = append(files, t.stapleFiles(nil)...)
		for _, f := range files {
			problems = append(problems, r.canRead(f, remembered))
		}
	}
	return errors.Join(problems...)
}

// findReader finds the user that a mail server runs as.
func findReader(name string) (reader, error) {
	a, err := findAccount(name)
	if errors.Is(err, errNoAccount) {
		err = fmt.Errorf("the mail server runs as %q, a user that this host does not have", name)
	}
	return reader{a}, err
}

// canRead checks one file and the directories that lead to it.
func (r reader) canRead(f file, remembered map[string]Access) error {
	dir := filepath.Dir(f.path)
	for !exists(dir) {
		dir = filepath.Dir(dir) // a deployment makes a generation's directories to match its files
	}
	if err := r.canReach(dir); err != nil {
		return err
	}
	root, err := f.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := f.target.look(root, dir, filepath.Base(f.path))
	if err != nil {
		return err
	}
	want, err := f.wanted(root, old, remembered)
	if err != nil {
		return wrap("plan", f.path, err)
	}
	if want = want.made(root); !r.may(want, 4) && want.labels[accessList] == nil {
		return r.unreadable(f.path, "may not read this file", want,
			fmt.Sprintf("write `group:` (a group that %s is in) and `mode: \"0640\"` in the deploy section", r.name))
	}
	return nil
}

// canReach checks a directory and all directories above it.
func (r reader) canReach(dir string) error {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return wrap("open directory", dir, err)
	}
	for up := resolved; ; up = filepath.Dir(up) {
		var stat unix.Stat_t
		if err := unix.Stat(up, &stat); err != nil {
			return wrap("look at", up, err)
		}
		a := Access{Mode: fs.FileMode(stat.Mode & 0o777), UID: int(stat.Uid), GID: int(stat.Gid)}
		if !r.may(a, 1) && !hasAccessList(up) {
			return r.unreadable(up, "may not search this directory", a, "let its group in (chgrp GROUP PATH; chmod g+x PATH), or choose another directory")
		}
		if up == filepath.Dir(up) {
			return nil
		}
	}
}

// unreadable says that a mail server cannot read a path that leads to its certificate.
func (r reader) unreadable(path, what string, a Access, hint string) error {
	return &Error{Op: "use", Path: path, Err: &fault{kind: kindUnreadable, hint: hint,
		text: fmt.Sprintf("the mail server runs as %s, which %s (%s)", r.name, what, a)}}
}

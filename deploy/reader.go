package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reader is the user as whom a mail server opens its files.
type Reader struct {
	Name   string
	UID    int
	Groups []int
}

// FindReader looks a user up, by name or number, with all groups.
func FindReader(name string) (Reader, error) {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return Reader{}, &accountError{kind: "user", name: name}
	}
	r := Reader{Name: u.Username}
	if r.UID, err = strconv.Atoi(u.Uid); err != nil {
		return r, err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return r, fmt.Errorf("the groups of %s: %v", name, err)
	}
	for _, g := range append(groups, u.Gid) {
		if gid, err := strconv.Atoi(g); err == nil && !slices.Contains(r.Groups, gid) {
			r.Groups = append(r.Groups, gid)
		}
	}
	return r, nil
}

// CanRead reports whether the reader could open the files of the targets as a deployment will leave them: each file, and
// each directory on the way. Access lists (acl(5)) are not judged; where there is one, it is taken for good. The error is
// an *UnreadableError for each path.
func (r Reader) CanRead(targets []Target) error {
	var problems []error
	for _, t := range targets {
		for _, i := range []item{{path: t.PrivateKey, secret: true}, {path: t.Certificate}, {path: t.Combined, secret: true}} {
			if i.target = t; i.path != "" {
				problems = append(problems, r.canRead(i))
			}
		}
		if t.Directory != "" {
			problems = append(problems, r.canRead(item{path: filepath.Join(t.Directory+generationsSuffix, "new", privkeyFile), secret: true, target: t}))
		}
	}
	return errors.Join(problems...)
}

func (r Reader) canRead(i item) error {
	dir := filepath.Dir(i.path)
	for {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir) // a generation's directories are made with the access of its files
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return wrap("open directory", dir, err)
	}
	for up := resolved; ; up = filepath.Dir(up) {
		var stat unix.Stat_t
		if err := unix.Stat(up, &stat); err != nil {
			return wrap("look at", up, err)
		}
		a := access{mode: fs.FileMode(stat.Mode & 0o777), uid: int(stat.Uid), gid: int(stat.Gid)}
		if !r.may(a, 1) && !hasAccessList(up) {
			return &UnreadableError{Reader: r.Name, Path: up, directory: true, access: a}
		}
		if up == filepath.Dir(up) {
			break
		}
	}
	root, err := i.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := i.look(root, dir, filepath.Base(i.path))
	if err != nil {
		return err
	}
	want, err := wanted(i, root, old)
	if err != nil {
		return wrap("plan", i.path, err)
	}
	if want = want.made(root); !r.may(want, 4) && want.labels[accessList] == nil {
		return &UnreadableError{Reader: r.Name, Path: i.path, access: want}
	}
	return nil
}

// made fills in what the system gives to a new file in a directory.
func (a access) made(root *os.Root) access {
	if a.uid < 0 {
		a.uid = os.Geteuid()
	}
	if a.gid >= 0 {
		return a
	}
	a.gid = os.Getegid()
	if info, err := root.Stat("."); err == nil && info.Mode()&fs.ModeSetgid != 0 {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			a.gid = int(stat.Gid)
		}
	}
	return a
}

// may applies the mode as the kernel does: the first class that fits decides (path_resolution(7)).
func (r Reader) may(a access, right fs.FileMode) bool {
	switch {
	case r.UID == 0:
		return true
	case r.UID == a.uid:
		return a.mode&(right<<6) != 0
	case slices.Contains(r.Groups, a.gid):
		return a.mode&(right<<3) != 0
	}
	return a.mode&right != 0
}

func hasAccessList(path string) bool {
	n, err := unix.Getxattr(path, accessList, nil)
	return err == nil && n > 0
}

// UnreadableError is a path that keeps a mail server from its certificate.
type UnreadableError struct {
	Reader, Path string
	directory    bool
	access
}

// Error says who could not read what, and what the path is like.
func (e *UnreadableError) Error() string {
	what := "could not read the file"
	if e.directory {
		what = "may not search the directory"
	}
	return fmt.Sprintf("the mail server, which runs as %s, %s %s (%s:%s, mode %04o)", e.Reader, what, e.Path, userName(e.uid), groupName(e.gid), e.mode)
}

// Kind is unreadable.
func (e *UnreadableError) Kind() string { return "unreadable" }

// Hint says what to change.
func (e *UnreadableError) Hint() string {
	if e.directory {
		return fmt.Sprintf("let its group in (chgrp GROUP %[1]s; chmod g+x %[1]s), or choose another directory", e.Path)
	}
	return fmt.Sprintf("write `group:` (a group that %s is in) and `mode: \"0640\"` in the deploy section", e.Reader)
}

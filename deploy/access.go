package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// access is who may read a file. An id of -1 leaves what the system gives.
type access struct {
	mode     fs.FileMode
	uid, gid int
}

// wanted decides owner, group and mode of a file: what is configured, else what the replaced file has, else the group
// of a setgid directory, else for Exim the group that it runs with, because it opens its key after it dropped root.
func wanted(t Target, root *os.Root, old *snapshot) (access, error) {
	want := access{mode: t.Mode, uid: -1, gid: -1}
	if old != nil {
		want = old.access()
		want.mode = t.Mode
	}
	if t.Owner != "" {
		uid, err := userID(t.Owner)
		if err != nil {
			return want, err
		}
		want.uid = uid
	}
	switch {
	case t.Group != "":
		gid, err := groupID(t.Group)
		if err != nil {
			return want, err
		}
		want.gid = gid
	case want.gid < 0 && t.Kind == "exim" && os.Geteuid() == 0 && !setgid(root):
		for _, name := range []string{"Debian-exim", "exim"} { // Debian's group, and the upstream and RHEL name
			if gid, err := groupID(name); err == nil {
				want.gid = gid
				break
			}
		}
	}
	return want, nil
}

// access is that of the file as it was found. Only root can give a file to another owner; others become the owner of
// what they write.
func (s *snapshot) access() access {
	a := access{mode: s.mode, uid: s.uid, gid: s.gid}
	if os.Geteuid() != 0 {
		a.uid = -1
	}
	return a
}

// permitted tells, without writing, whether this process could give a file in a directory that access (chown(2)).
func (a access) permitted(root *os.Root) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if a.uid >= 0 && a.uid != os.Geteuid() {
		return fmt.Errorf("set owner %d: %w", a.uid, fs.ErrPermission)
	}
	groups, err := os.Getgroups()
	if err != nil || a.gid < 0 || a.gid == os.Getegid() || slices.Contains(groups, a.gid) {
		return err
	}
	if info, err := root.Stat("."); err == nil && info.Mode()&fs.ModeSetgid != 0 {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Gid) == a.gid {
			return nil // files there have this group by themselves
		}
	}
	return fmt.Errorf("set group %d, of which this user is no member: %w", a.gid, fs.ErrPermission)
}

// set gives an open file its owner, group and mode, in this order: chown(2) may clear mode bits. What it has already is
// not set again: in a setgid directory the group is right by itself, and a sandbox may forbid even the empty change.
func (a access) set(file *os.File) error {
	if info, err := file.Stat(); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			if a.uid == int(stat.Uid) {
				a.uid = -1
			}
			if a.gid == int(stat.Gid) {
				a.gid = -1
			}
		}
	}
	if a.uid >= 0 || a.gid >= 0 {
		if err := file.Chown(a.uid, a.gid); err != nil {
			return fmt.Errorf("set owner %s and group %s: %w", idText(a.uid), idText(a.gid), plain(err))
		}
	}
	return file.Chmod(a.mode)
}

func idText(id int) string {
	if id < 0 {
		return "(unchanged)"
	}
	return strconv.Itoa(id)
}

func setgid(root *os.Root) bool {
	info, err := root.Stat(".")
	return err == nil && info.Mode()&fs.ModeSetgid != 0
}

func userID(name string) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return 0, &accountError{kind: "user", name: name}
	}
	if err != nil {
		return 0, fmt.Errorf("look up user %q: %w", name, err)
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(name)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return 0, &accountError{kind: "group", name: name}
	}
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}

// accountError is a user or group that this host does not have.
type accountError struct{ kind, name string }

func (e *accountError) Error() string {
	return fmt.Sprintf("there is no %s %q on this host", e.kind, e.name)
}

package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// newMode is that of a file that was not there before, where none is configured.
const newMode = 0o640

// access is who may read a file. An id of -1 leaves what the system gives.
type access struct {
	mode     fs.FileMode
	uid, gid int
	labels   labels // of the file that is replaced
}

// wanted decides owner, group and mode of a file: what is configured, else what it was given before (a package may have
// changed it since), else what the replaced file has, else the group of a setgid directory, else for Exim the group that
// it runs with, because it opens its key after it dropped root. Others than owner and group keep no access to a key.
func wanted(i item, root *os.Root, old *snapshot) (access, error) {
	want := access{mode: newMode, uid: -1, gid: -1}
	if old != nil {
		want = old.access()
	}
	if before, ok := i.target.Remembered[i.path]; ok && before.Mode != 0 {
		want.mode, want.gid = before.Mode, before.GID
		if os.Geteuid() == 0 {
			want.uid = before.UID
		}
	}
	if i.secret {
		want.mode &^= 0o007
	}
	if i.target.Mode != 0 {
		want.mode = i.target.Mode
	}
	if i.target.Owner != "" {
		uid, err := userID(i.target.Owner)
		if err != nil {
			return want, err
		}
		want.uid = uid
	}
	switch {
	case i.target.Group != "":
		gid, err := groupID(i.target.Group)
		if err != nil {
			return want, err
		}
		want.gid = gid
	case want.gid < 0 && i.target.Kind == kindExim && os.Geteuid() == 0 && !setgid(root):
		for _, name := range eximAccounts() {
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
	a := access{mode: s.mode, uid: s.uid, gid: s.gid, labels: s.labels}
	if os.Geteuid() != 0 {
		a.uid = -1
	}
	return a
}

// differs reports whether a file has another owner, group or mode.
func (a access) differs(s *snapshot) bool {
	return s.mode != a.mode || a.uid >= 0 && s.uid != a.uid || a.gid >= 0 && s.gid != a.gid
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

// set gives an open file, which is still empty, its owner, group, labels and mode, in this order: chown(2) may clear mode
// bits, and the mode has the last word over an access list. What it has already is not set again: in a setgid directory the
// group is right by itself, and a sandbox may forbid even the empty change.
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
	if err := a.labels.set(file); err != nil {
		return err
	}
	return plain(file.Chmod(a.mode))
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

// Access is the part that is remembered.
func (a access) Access() Access { return Access{Mode: a.mode, UID: a.uid, GID: a.gid} }

// attributes is what a listing will show.
func (a access) attributes() Attributes {
	return Attributes{Owner: userName(a.uid), Group: groupName(a.gid), Mode: fmt.Sprintf("%04o", a.mode)}
}

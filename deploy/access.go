package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// newMode is the mode of a new file if the configuration sets none.
const newMode = 0o640

// Access is the owner, the group and the mode of a path. If an ID is -1, the system chooses it.
type Access struct {
	Mode     fs.FileMode
	UID, GID int

	labels labels // of the replaced file
}

// wanted decides owner, group and mode of a file. It takes the first of these that exists: what the configuration sets; what mxcert gave
// the file before (a package may have changed it since); what the replaced file has; the group of a setgid directory; for Exim the group
// that Exim runs with, because Exim opens its key after it has dropped root. Only the owner and the group may read a key, unless the
// configuration sets a mode.
func (f file) wanted(root *os.Root, old *snapshot, remembered map[string]Access) (Access, error) {
	want := Access{Mode: newMode, UID: -1, GID: -1}
	if old != nil {
		want = old.again()
	}
	if before, ok := remembered[f.path]; ok && before.Mode != 0 {
		want.Mode, want.GID = before.Mode, before.GID
		if os.Geteuid() == 0 {
			want.UID = before.UID
		}
	}
	if f.secret {
		want.Mode &^= 0o007
	}
	if f.staple && old == nil && remembered[f.path].Mode == 0 {
		want.Mode = stapleMode
	}
	if f.target.Mode != 0 {
		want.Mode = f.target.Mode
	}
	if f.target.Owner != "" {
		uid, err := userID(f.target.Owner)
		if err != nil {
			return want, err
		}
		want.UID = uid
	}
	switch {
	case f.target.Group != "":
		gid, err := groupID(f.target.Group)
		if err != nil {
			return want, err
		}
		want.GID = gid
	case want.GID < 0 && os.Geteuid() == 0:
		want.GID = f.target.newGroup(root)
	}
	return want, nil
}

// newGroup returns the group that root gives a new file in a directory. It names the group of a setgid directory, because the kernel gives
// new files that group only in the directory itself, not in the staging directory.
func (t Target) newGroup(root *os.Root) int {
	switch gid := groupOfSetgid(root); {
	case gid >= 0:
		return gid
	case t.Kind == kindExim:
		return eximGroup()
	}
	return -1
}

// eximGroup returns the group that Exim runs with, or -1 if this host has none.
func eximGroup() int {
	for _, name := range eximAccounts() {
		if gid, err := groupID(name); err == nil {
			return gid
		}
	}
	return -1
}

// again returns the access for a file that replaces the snapshot. Only root can give a file to another owner; other users own what they
// write.
func (s *snapshot) again() Access {
	a := s.access
	if os.Geteuid() != 0 {
		a.UID = -1
	}
	return a
}

// differs reports whether a path has another owner, group or mode.
func (a Access) differs(has Access) bool {
	return has.Mode != a.Mode || a.UID >= 0 && has.UID != a.UID || a.GID >= 0 && has.GID != a.GID
}

// accessOf returns the access to a path, without labels. ok is false if the file system does not report it.
func accessOf(info fs.FileInfo) (a Access, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Access{}, false
	}
	return Access{Mode: info.Mode().Perm(), UID: int(stat.Uid), GID: int(stat.Gid)}, true
}

// permitted checks, without writing, whether this process could give that access to a file in a directory (chown(2)).
func (a Access) permitted(root *os.Root) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if a.UID >= 0 && a.UID != os.Geteuid() {
		return fmt.Errorf("set owner %d: %w", a.UID, fs.ErrPermission)
	}
	groups, err := os.Getgroups()
	if err != nil || a.GID < 0 || a.GID == os.Getegid() || slices.Contains(groups, a.GID) {
		return err
	}
	if groupOfSetgid(root) == a.GID {
		return nil // new files there have this group
	}
	return fmt.Errorf("set group %d, of which this user is no member: %w", a.GID, fs.ErrPermission)
}

// set sets owner, group, labels and mode of an open file that is still empty. The order matters: chown(2) may clear mode bits, and the mode
// overrides parts of an access list. set leaves out what the file already has: in a setgid directory the kernel has already set the group,
// and a sandbox may forbid even a change that changes nothing.
func (a Access) set(file *os.File) error {
	if info, err := file.Stat(); err == nil {
		if has, ok := accessOf(info); ok {
			if a.UID == has.UID {
				a.UID = -1
			}
			if a.GID == has.GID {
				a.GID = -1
			}
		}
	}
	if a.UID >= 0 || a.GID >= 0 {
		if err := file.Chown(a.UID, a.GID); err != nil {
			return fmt.Errorf("set owner %s and group %s: %w", idText(a.UID), idText(a.GID), plain(err))
		}
	}
	if err := a.labels.set(file); err != nil {
		return err
	}
	return plain(file.Chmod(a.Mode))
}

func idText(id int) string {
	if id < 0 {
		return "(unchanged)"
	}
	return strconv.Itoa(id)
}

// groupOfSetgid returns the group that the kernel gives to new files in a directory if it is a setgid directory, or -1 (open(2)).
func groupOfSetgid(root *os.Root) int {
	info, err := root.Stat(".")
	if err != nil || info.Mode()&fs.ModeSetgid == 0 {
		return -1
	}
	of, ok := accessOf(info)
	if !ok {
		return -1
	}
	return of.GID
}

// made fills in what the system chooses for a new file in a directory.
func (a Access) made(root *os.Root) Access {
	if a.UID < 0 {
		a.UID = os.Geteuid()
	}
	if a.GID < 0 {
		a.GID = groupOfSetgid(root)
	}
	if a.GID < 0 {
		a.GID = os.Getegid()
	}
	return a
}

// searchable returns the access for a directory whose files have the access a.
func (a Access) searchable() Access {
	a.Mode |= a.Mode & 0o444 >> 2
	a.labels = nil
	return a
}

// attributes returns what a directory listing will show.
func (a Access) attributes() Attributes {
	return Attributes{Owner: userName(a.UID), Group: groupName(a.GID), Mode: fmt.Sprintf("%04o", a.Mode)}
}

// String returns owner, group and mode for a message.
func (a Access) String() string {
	return fmt.Sprintf("%s:%s, mode %04o", userName(a.UID), groupName(a.GID), a.Mode)
}

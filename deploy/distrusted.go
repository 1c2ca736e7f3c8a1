package deploy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A process of root that works for another user must give that user no rights. The install helper is such a process. Whoever can write a
// directory chooses at every moment what each name in it leads to, and needs no help to write there. So the process refuses everything
// below such a directory. No other way can change under its hands: whoever cannot write a directory cannot exchange what is in it.

// distrustedAccounts holds the users that were looked up, by name. A process works for one of them, not for long, and asks for each file.
var distrustedAccounts sync.Map //nolint:gochecknoglobals // see above

func distrustedAccount(name string) (account, error) {
	if known, ok := distrustedAccounts.Load(name); ok {
		return known.(account), nil //nolint:forcetypeassert // nothing else is stored
	}
	a, err := findAccount(name)
	if err == nil {
		distrustedAccounts.Store(name, a)
	}
	return a, err
}

// WritableBy lists the places of the target below a directory that a user can write, whether as owner or by its mode or access list. The
// user may reach the directory through a symbolic link. A place that cannot be looked at is left out, and so is everything if this host has
// no such user.
func (t Target) WritableBy(name string) (places []string, err error) {
	a, err := distrustedAccount(name)
	if errors.Is(err, errNoAccount) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, place := range t.Places(nil) {
		if dir, _, err := a.firstWritable(filepath.Dir(place)); err == nil && dir != "" {
			places = append(places, place)
		}
	}
	return places, nil
}

// refuseDistrusted refuses a directory if the distrusted user can write it, or a directory on the way to it. It returns the directory that
// it has seen at the end of the way; nil if nobody is distrusted.
func (t Target) refuseDistrusted(dir string) (fs.FileInfo, error) {
	if t.Distrusted == "" {
		return nil, nil
	}
	a, err := distrustedAccount(t.Distrusted)
	if errors.Is(err, errNoAccount) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, end, err := a.firstWritable(dir)
	if err == nil && found != "" {
		err = &Error{Op: "write below", Path: found, Err: refusal(
			fmt.Sprintf("the user %s can write this directory (%s); root does not write there for that user, who could lead it to other files", a.name, listing(found)),
			fmt.Sprintf("configure a path in a directory that only root can write, make PATH one (chown root PATH; chmod go-w PATH), or let the user %s deploy there without root", a.name))}
	}
	return end, err
}

// refuseGiving refuses a generation if its directories would belong to the distrusted user, or if the user could write them.
func (t Target) refuseGiving(generation Access) error {
	if t.Distrusted == "" {
		return nil
	}
	a, err := distrustedAccount(t.Distrusted)
	if errors.Is(err, errNoAccount) {
		return nil
	}
	if err == nil && (generation.UID == a.uid || a.may(generation, 2)) {
		err = refusal(fmt.Sprintf("the user %s could write the directories of the generations (%s), and so lead root to other files", a.name, generation),
			fmt.Sprintf("leave out `owner: %s` in the deploy section and set a mode that gives its group no right to write, or configure a path that the user %[1]s can write without root", a.name))
	}
	return err
}

// distrusts reports whether a number is that of the distrusted user.
func (t Target) distrusts(uid int) bool {
	if t.Distrusted == "" {
		return false
	}
	a, err := distrustedAccount(t.Distrusted)
	return err == nil && a.uid == uid
}

// firstWritable goes along the way to a directory, through symbolic links, and returns the first directory that the user can write; "" if
// there is none. end is the directory at the end of the way. A sticky directory on the way does not count, because in it the user can
// exchange only what belongs to the user.
func (a account) firstWritable(dir string) (found string, end fs.FileInfo, err error) {
	way, err := filepath.Abs(dir)
	here, rest := "/", strings.TrimPrefix(way, "/")
	for links := 0; err == nil && links <= maxLinks; {
		info, err := os.Lstat(here)
		switch {
		case err != nil:
			return "", nil, err
		case info.Mode()&fs.ModeSymlink != 0:
			leads, err := os.Readlink(here)
			if err != nil {
				return "", nil, err
			}
			if !filepath.IsAbs(leads) {
				leads = filepath.Join(filepath.Dir(here), leads)
			}
			links++
			here, rest = "/", strings.TrimPrefix(filepath.Join(leads, rest), "/")
			continue
		case !info.IsDir():
			return "", nil, unix.ENOTDIR
		case a.controls(here, info, rest == ""):
			return here, info, nil
		case rest == "":
			return "", info, nil
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		here = filepath.Join(here, name)
	}
	if err == nil {
		err = unix.ELOOP
	}
	return "", nil, err
}

// controls reports whether the user can put something into a directory, and exchange what is in it. At the end of a way the first is enough,
// because something may not exist there yet.
func (a account) controls(path string, dir fs.FileInfo, atEnd bool) bool {
	of, ok := accessOf(dir)
	switch {
	case !ok || of.UID == a.uid: // an owner can take every right
		return true
	case of.Mode&0o022 == 0, dir.Mode()&fs.ModeSticky != 0 && !atEnd:
		return false
	case a.may(of, 2):
		return true
	}
	return of.Mode&0o020 != 0 && a.listed(path, of) // the rights of the group limit an access list
}

// listed reports whether the access list of a path lets the user write, as one of the users or groups that it names.
func (a account) listed(path string, of Access) bool {
	list := make([]byte, maxLabel)
	n, err := unix.Getxattr(path, accessList, list)
	if err != nil {
		return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOSYS)
	}
	const version, entry, write = 4, 8, 2 // bytes, bytes, a right: posix_acl_xattr.h of the kernel
	const namedUser, ownGroup, namedGroup = 0x02, 0x04, 0x08
	for rest := list[:n]; len(rest) >= version+entry; rest = rest[entry:] {
		tag, rights, id := binary.LittleEndian.Uint16(rest[version:]), binary.LittleEndian.Uint16(rest[version+2:]), int(binary.LittleEndian.Uint32(rest[version+4:]))
		named := tag == namedUser && id == a.uid || tag == namedGroup && slices.Contains(a.groups, id) || tag == ownGroup && slices.Contains(a.groups, of.GID)
		if named && rights&write != 0 {
			return true
		}
	}
	return false
}

// listing returns owner, group and mode of a path for a message.
func listing(path string) string {
	if info, err := os.Lstat(path); err == nil {
		if of, ok := accessOf(info); ok {
			return of.String()
		}
	}
	return "its mode cannot be read"
}

package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links may be on the way to a directory, as for the kernel (path_resolution(7)).
const maxLinks = 40

// openWay opens a directory as [os.OpenRoot] does. Root follows a symbolic link on the way only if nobody else could have put it there:
// otherwise whoever owns a directory on the way, such as the service, would choose which file root replaces. The links of the configured
// owner lead to directories of that owner only. A process without rights of root can do no more than its own user, and may not be allowed
// to read the directories on the way.
//
// If there is a link, or if openat2(2) is not there, as in the sandbox of the install helper (RestrictSUIDSGID= of systemd.exec(5)), it goes
// from one directory to the next. A directory that another process exchanges for a link at this moment is noticed: it is not the one that
// was seen.
func (t Target) openWay(dir string) (*os.Root, error) {
	if os.Geteuid() != 0 {
		return os.OpenRoot(filepath.Clean(dir) + "/.") // so that the system refuses a pipe, and does not wait for it
	}
	way, err := filepath.Abs(dir)
	if err == nil {
		if root, err := openWithoutLinks(way); err == nil {
			return root, nil
		}
	}
	owner := 0
	for links := 0; err == nil && links < maxLinks; links++ {
		root, link, openErr := openPlain(way)
		if link == nil {
			if openErr == nil {
				openErr = leadsTo(root, owner)
			}
			return root, openErr
		}
		var theirs int
		if way, theirs, err = t.follow(root, link); theirs != 0 {
			owner = theirs
		}
		_ = root.Close()
	}
	if err == nil {
		err = unix.ELOOP
	}
	return nil, err
}

// openWithoutLinks opens a directory if there is no link on the way to it.
func openWithoutLinks(path string) (*os.Root, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(fd)) // leads to what the descriptor has open, not to a path
}

// wayLink is a symbolic link on the way to a directory.
type wayLink struct {
	info       fs.FileInfo
	dir        string // that it is in
	name, rest string // rest is the way from there
}

// openPlain opens an absolute path. If there is a link on the way, it opens the directory that the link is in, and returns the link.
func openPlain(path string) (*os.Root, *wayLink, error) {
	at, err := os.OpenRoot("/")
	here, rest := "/", strings.TrimPrefix(path, "/")
	for err == nil && rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		info, lookErr := at.Lstat(name)
		if lookErr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return at, &wayLink{info, here, name, rest}, nil
		}
		if lookErr == nil && !info.IsDir() {
			lookErr = unix.ENOTDIR // to open a pipe could wait for ever
		}
		above := at
		if err = lookErr; err == nil {
			at, err = openSeen(above, name, info)
		}
		_ = above.Close()
		here = filepath.Join(here, name)
	}
	if err != nil {
		return nil, nil, err
	}
	return at, nil, nil
}

// openSeen opens a directory that Lstat has seen. The dot makes the system refuse what is no directory: a pipe may be there by now, and to
// open it could wait for ever.
func openSeen(above *os.Root, name string, seen fs.FileInfo) (*os.Root, error) {
	root, err := above.OpenRoot(name + "/.")
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !os.SameFile(info, seen) {
		err = errChanging
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

// openDirectory opens a directory in another one. It follows no link and does not wait for a pipe.
func openDirectory(above *os.Root, name string) (*os.Root, error) {
	seen, err := above.Lstat(name)
	if err == nil && !seen.IsDir() {
		err = errNotDirectory
	}
	if err != nil {
		return nil, err
	}
	return openSeen(above, name, seen)
}

// follow returns where a link leads, with the rest of the way. It refuses a link that another user owns, or that lies in a directory of
// another user. The configured owner may have links; then it returns this user, too.
func (t Target) follow(root *os.Root, link *wayLink) (way string, theirs int, err error) {
	dir, err := root.Stat(".")
	if err != nil {
		return "", 0, err
	}
	for _, info := range []fs.FileInfo{link.info, dir} {
		of, ok := accessOf(info)
		if !ok || of.UID != 0 && !t.isOwner(of.UID) {
			return "", 0, refusal(fmt.Sprintf("%s is a symbolic link of the user %s, who would choose which files root replaces", filepath.Join(link.dir, link.name), userName(of.UID)),
				"configure the path that it points to, or give the link and its directory to root (chown -h root)")
		}
		if of.UID != 0 {
			theirs = of.UID
		}
	}
	leads, err := root.Readlink(link.name)
	if err != nil {
		return "", 0, err
	}
	if !filepath.IsAbs(leads) {
		leads = filepath.Join(link.dir, leads)
	}
	return filepath.Join(leads, link.rest), theirs, nil
}

// leadsTo refuses, and closes, a directory to which a link of a user leads, unless that user owns the directory. 0 stands for no such link.
func leadsTo(root *os.Root, owner int) error {
	if owner == 0 {
		return nil
	}
	info, err := root.Stat(".")
	if err == nil {
		if of, ok := accessOf(info); !ok || of.UID != owner {
			err = refusal(fmt.Sprintf("a symbolic link of the user %s leads to this directory of the user %s", userName(owner), userName(of.UID)),
				"configure the path that it points to, or give the link and its directory to root (chown -h root)")
		}
	}
	if err != nil {
		_ = root.Close()
	}
	return err
}

// isOwner reports whether a user is the configured owner, and not the distrusted user.
func (t Target) isOwner(uid int) bool {
	id, err := userID(t.Owner)
	return t.Owner != "" && err == nil && id == uid && !t.distrusts(uid)
}

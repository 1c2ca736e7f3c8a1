// Package privilege gives up the rights of root. A command that root runs works on state that belongs to the service's user. If it did that
// as root, whoever has taken over the service could choose with a link what root reads, replaces or removes. So the command becomes that
// user first, and the kernel judges every path by that user's rights (credentials(7)).
package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// BecomeOwner makes this process the owner of a directory, for good, with the groups that the owner has (group(5)). It does nothing if this
// process is not root, if the directory belongs to root, or if there is no such directory. A link in the place of the directory is
// followed: its own directory belongs to root, or should.
//
// Children have these rights, too. As for the service, programs that are setuid give them no others (PR_SET_NO_NEW_PRIVS of prctl(2)).
// If there is an error, the process may have some rights of root left, and must not go on.
func BecomeOwner(directory string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := become(identityOf(int(owner.Uid), int(owner.Gid))); err != nil {
		return &Error{Directory: directory, UID: int(owner.Uid), Err: err}
	}
	return nil
}

// identity is a user as the kernel knows it, and what a login sets.
type identity struct {
	uid, gid    int
	groups      []int
	environment map[string]string
}

// identityOf returns a user with all groups. A user that this host does not know has the group of the directory.
func identityOf(uid, gid int) identity {
	id := identity{uid: uid, gid: gid, groups: []int{}}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return id
	}
	id.environment = map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username}
	if primary, err := strconv.Atoi(u.Gid); err == nil {
		id.gid = primary
	}
	names, _ := u.GroupIds() // without them, the user has fewer rights
	for _, name := range names {
		if group, err := strconv.Atoi(name); err == nil {
			id.groups = append(id.groups, group)
		}
	}
	return id
}

// become changes all threads of this process; the user goes last, because it takes the right to change the groups.
func become(id identity) error {
	if err := syscall.Setgroups(id.groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setgid(id.gid); err != nil {
		return fmt.Errorf("setgid %d: %w", id.gid, err)
	}
	if err := syscall.Setuid(id.uid); err != nil {
		return fmt.Errorf("setuid %d: %w", id.uid, err)
	}
	if syscall.Setuid(0) == nil {
		return errors.New("this process can become root again")
	}
	// Another process of that user must not read or change this one, which holds what root has read and has root's terminal. The kernel
	// may have allowed it again with the change of the user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0) // a program built with cgo cannot; it is no wall, only the same rights as the service has
	for name, value := range id.environment {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// Error says that root cannot become the owner of a directory.
type Error struct {
	Directory string
	UID       int
	Err       error
}

// Error names the directory and the user.
func (e *Error) Error() string {
	return fmt.Sprintf("%s belongs to user %d, and root does not work in a directory of another user; mxcert could not become that user: %v", e.Directory, e.UID, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind is "permission".
func (e *Error) Kind() string { return "permission" }

// Hint says what to do.
func (e *Error) Hint() string {
	return fmt.Sprintf("run it as the owner of %[1]s; or, if no service uses it, give it to root: chown -R root: %[1]s", e.Directory)
}

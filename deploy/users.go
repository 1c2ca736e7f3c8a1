package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
)

// These are the kinds of target that a mail server reads.
const (
	kindExim    = "exim"
	kindPostfix = "postfix"
	kindDovecot = "dovecot"
)

// serviceAccount is the user of mxcert.service. An administrator who works as root trusts the files of the service.
const serviceAccount = "mxcert"

// eximAccounts are Debian's user and group for Exim, and the upstream and RHEL name.
func eximAccounts() []string { return []string{"Debian-exim", "exim"} }

// trusts reports whether a file or directory may belong to a user. It may belong to root, to this process, to the service, to the mail
// server, or to the configured owner, but not to the distrusted user. Any other owner could put another key where the server reads, and
// would own mxcert's key afterwards.
func (t Target) trusts(uid int) bool {
	if uid == 0 || uid == os.Geteuid() {
		return true
	}
	if t.distrusts(uid) {
		return false
	}
	names := []string{t.Owner, serviceAccount}
	switch t.Kind {
	case kindExim:
		names = append(names, eximAccounts()...)
	case kindPostfix, kindDovecot:
		names = append(names, t.Kind)
	}
	for _, name := range names {
		if id, err := userID(name); name != "" && err == nil && id == uid {
			return true
		}
	}
	return false
}

// account is a user with all groups.
type account struct {
	name   string
	uid    int
	groups []int
}

var errNoAccount = errors.New("there is no such user")

// findAccount finds a user by name or number. The error is errNoAccount if this host has no such user.
func findAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		if _, notNumber := strconv.Atoi(name); notNumber != nil {
			return account{}, errNoAccount
		}
		u, err = user.LookupId(name)
	}
	if _, unknown := errors.AsType[user.UnknownUserIdError](err); unknown {
		return account{}, errNoAccount
	}
	if err != nil {
		return account{}, fmt.Errorf("look up user %q: %w", name, err)
	}
	a := account{name: u.Username}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return a, err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return a, fmt.Errorf("the groups of %s: %v", name, err)
	}
	for _, g := range append(groups, u.Gid) {
		if gid, err := strconv.Atoi(g); err == nil && !slices.Contains(a.groups, gid) {
			a.groups = append(a.groups, gid)
		}
	}
	return a, nil
}

// may applies the mode as the kernel does: the first class that fits decides (path_resolution(7)).
func (a account) may(has Access, right fs.FileMode) bool {
	switch {
	case a.uid == 0:
		return true
	case a.uid == has.UID:
		return has.Mode&(right<<6) != 0
	case slices.Contains(a.groups, has.GID):
		return has.Mode&(right<<3) != 0
	}
	return has.Mode&right != 0
}

func userID(name string) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return 0, unknownAccount("user", "owner", name)
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
		return 0, unknownAccount("group", "group", name)
	}
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}

// unknownAccount is a user or group that a setting names and this host does not have.
func unknownAccount(what, setting, name string) error {
	return &fault{kind: kindFiles, text: fmt.Sprintf("there is no %s %q on this host", what, name),
		hint: fmt.Sprintf("fix `%s` in the deploy section, or create the %s", setting, what)}
}

// userName is the name of a user for a message; its number if it has no name.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

package deploy

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// The kinds of target.
const (
	kindExim    = "exim"
	kindPostfix = "postfix"
	kindDovecot = "dovecot"
)

// serviceAccount is the user of mxcert.service. Files of its own are no foreign ones for root, who works by hand.
const serviceAccount = "mxcert"

// eximAccounts are Debian's user and group for Exim, and the upstream and RHEL name.
func eximAccounts() []string { return []string{"Debian-exim", "exim"} }

// trusts reports whether a file or directory may belong to a user: to root, to this process, to the service, to the mail
// server, or to the owner that is configured. Anybody else could put a key of his own where the server reads, and would
// come to own ours.
func (t Target) trusts(uid int) bool {
	if uid == 0 || uid == os.Geteuid() {
		return true
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

// userName is the name of a user for a message; its number where it has none.
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

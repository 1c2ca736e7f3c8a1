package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
	"syscall"

	"mxcert/acme/finding"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// keysGroup is the group of keysDirectory; the user of a mail server must be a member to read keys there.
const keysGroup = "mxcert-keys"

// EximChange is the change that makes Exim read the certificate. On Debian it consists of lines in files of macros and a group for Exim's
// user.
type EximChange struct {
	Debian bool // otherwise the operator must make the change
	Made   bool // Apply has made the files, because there were none

	want   deploy.Pair
	exim   discover.EximSetup
	names  []string
	member bool // Exim's user must become a member of keysGroup
	edit   *discover.EximChange
}

// PlanExim finds the change that makes Exim read the files in the answers. It returns nil if Exim reads them already.
func PlanExim(host Host, answers *Answers) (*EximChange, error) {
	c := &EximChange{want: deploy.Pair{Certificate: answers.Certificate, Key: answers.Key}, exim: host.Exim, names: answers.Domains, edit: &discover.EximChange{}}
	reads := host.Exim.Pair == c.want
	c.Debian = host.Exim.Macros != ""
	c.member = c.Debian && strings.HasPrefix(c.want.Key, keysDirectory) && lacksGroup(c.exim.User, keysGroup)
	if reads && !c.member {
		return nil, nil //nolint:nilnil // there is nothing to change
	}
	if reads || !c.Debian && c.exim.ConfigFile == "" {
		return c, nil
	}
	var err error
	c.edit, err = host.Exim.Change(c.want.Certificate, c.want.Key)
	return c, err
}

// lacksGroup reports whether a user is not a member of a group; both must exist on this host.
func lacksGroup(name, group string) bool {
	g, err := user.LookupGroup(group)
	u, userErr := user.Lookup(name)
	if err != nil || userErr != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err != nil || !slices.Contains(groups, g.Gid)
}

// Diff returns the lines that change; "" if there are none.
func (c *EximChange) Diff() string { return c.edit.Diff() }

// ByHand says how the operator makes the change. The files come first: an Exim without them answers 454.
func (c *EximChange) ByHand() string {
	_, err := os.Stat(c.want.Certificate)
	missing := err != nil
	what, commands := "", "update-exim4.conf && systemctl reload exim4"
	switch {
	case !c.Debian && c.Diff() != "":
		what, commands = "Exim must read the certificate: change its configuration like this, then: ", c.exim.Program+" -bV && systemctl reload exim"
	case !c.Debian:
		what, commands = fmt.Sprintf("Exim must read the certificate: set tls_certificate = %s and tls_privatekey = %s", c.want.Certificate, c.want.Key), ""
		if c.want.Certificate == c.want.Key {
			what = "Exim must read the certificate: set tls_certificate = " + c.want.Certificate
		}
	case c.Diff() != "":
		what = "change the file like this, then: "
	}
	switch join := strings.Join(c.join(), " ") + " && "; {
	case missing && c.member:
		return "by hand: first run `" + join + "mxcert renew --now`, which writes the files; then " + what + commands
	case missing:
		return "by hand: first run `mxcert renew --now`, which writes the files; then " + what + commands
	case c.member:
		return "by hand: " + what + join + commands
	}
	return "by hand: " + what + commands
}

// join returns the command that lets Exim's user read the keys of the service.
func (c *EximChange) join() []string { return []string{"usermod", "-aG", keysGroup, c.exim.User} }

// Apply makes the change and reloads Exim. reloaded is false if Exim is not running; it then reads the change when it starts. A
// reload is enough for new macros and for a new group, because Exim then executes itself again. If Exim does not accept the
// change, Apply restores the file. If the certificate's files do not exist, Apply first makes them, for Exim to have a certificate until
// the first renewal.
func (c *EximChange) Apply(ctx context.Context) (reloaded bool, err error) {
	if c.member {
		if err := must(ctx, c.join()...); err != nil {
			return false, err
		}
	}
	if c.Made, err = c.provide(c.names); err != nil {
		return false, err
	}
	access := c.access()
	for i, f := range c.edit.Files() {
		if err := access[i].write(f.Path, f.New); err != nil {
			return false, errors.Join(err, c.restore(context.WithoutCancel(ctx), access))
		}
	}
	if err = c.prove(ctx); err == nil {
		reloaded, err = reload(ctx, smtpPorts())
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("%w; Exim was not reloaded, and mxcert has restored its configuration", err), c.restore(context.WithoutCancel(ctx), access))
	}
	return reloaded, nil
}

// prove builds the new configuration, and asks Exim whether it accepts it and would read the files.
func (c *EximChange) prove(ctx context.Context) error {
	if err := must(ctx, "update-exim4.conf"); err != nil {
		return err
	}
	if err := must(ctx, c.exim.Program, "-bV"); err != nil {
		return err
	}
	now, err := discover.Exim(ctx)
	if err == nil && now.Pair != c.want {
		err = fmt.Errorf("with these macros, Exim would still read %s: another part of its configuration says so", finding.Quote(now.Setting, 200))
	}
	if err == nil {
		target := deploy.Target{Kind: exim, Certificate: c.want.Certificate, PrivateKey: c.want.Key}
		if c.want.Certificate == c.want.Key {
			target = deploy.Target{Kind: exim, Combined: c.want.Key}
		}
		err = discover.TryExim(ctx, []deploy.Target{target})
	}
	return err
}

// access is who may read and write a file.
type access struct {
	mode     fs.FileMode
	uid, gid int
}

func (a access) write(path, text string) error { return WriteFile(path, text, a.mode, a.uid, a.gid) }

// access returns the access to each file that changes. A new file is readable for everybody, as Debian's are.
func (c *EximChange) access() (list []access) {
	for _, f := range c.edit.Files() {
		a := access{mode: 0o644, uid: -1, gid: -1}
		if info, err := os.Stat(f.Path); err == nil {
			a.mode = info.Mode().Perm()
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				a.uid, a.gid = int(stat.Uid), int(stat.Gid)
			}
		}
		list = append(list, a)
	}
	return list
}

// restore writes the old macros back, and builds the configuration from them again.
func (c *EximChange) restore(ctx context.Context, access []access) error {
	if c.Diff() == "" {
		return nil
	}
	for i, f := range c.edit.Files() {
		err := os.Remove(f.Path)
		if f.Exists {
			err = access[i].write(f.Path, f.Old)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return must(ctx, "update-exim4.conf")
}

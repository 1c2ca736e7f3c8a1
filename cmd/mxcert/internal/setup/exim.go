package setup

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// keysGroup is the group of keysDirectory; the user of a mail server must be a member to read keys there.
const keysGroup = "mxcert-keys"

// EximChange is the change that makes Exim read the certificate. On Debian it consists of lines in files of macros and a group for Exim's
// user. See [Change].
type EximChange struct {
	debian bool // otherwise the operator must make the change
	want   []deploy.Pair
	exim   discover.EximSetup
	names  []string
	member bool // Exim's user must become a member of keysGroup
	edit   *discover.EximChange
}

// PlanExim finds the change that makes Exim read these files, one pair for each type of key. It returns nil if Exim reads them already.
func PlanExim(setup discover.EximSetup, pairs []deploy.Pair, names []string) (*EximChange, error) {
	c := &EximChange{want: pairs, exim: setup, names: names, edit: &discover.EximChange{}}
	reads := slices.Equal(setup.Pairs, pairs)
	c.debian = setup.Macros != ""
	c.member = c.debian && strings.HasPrefix(pairs[0].Key, keysDirectory) && lacksGroup(c.exim.User, keysGroup)
	if reads && !c.member {
		return nil, nil //nolint:nilnil // there is nothing to change
	}
	if reads || !c.debian && c.exim.ConfigFile == "" {
		return c, nil
	}
	var err error
	certificate, key := eximLists(pairs)
	c.edit, err = setup.Change(certificate, key)
	return c, err
}

// eximLists writes pairs as Exim's two lists. They are equal if each file has both.
func eximLists(pairs []deploy.Pair) (certificate, key string) {
	var certificates, keys []string
	for _, p := range pairs {
		certificates, keys = append(certificates, p.Certificate), append(keys, p.Key)
	}
	return strings.Join(certificates, " : "), strings.Join(keys, " : ")
}

// Server names the server.
func (c *EximChange) Server() string { return nameOf(exim) }

// Automatic reports whether this is Debian's configuration.
func (c *EximChange) Automatic() bool { return c.debian }

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
	certificate, key := eximLists(c.want)
	what, commands := "", "update-exim4.conf && systemctl reload exim4"
	switch {
	case !c.debian && c.Diff() != "":
		what, commands = "Exim must read the certificate: change its configuration like this, then: ", c.exim.Program+" -bV && systemctl reload exim"
	case !c.debian:
		what, commands = fmt.Sprintf("Exim must read the certificate: set tls_certificate = %s and tls_privatekey = %s", certificate, key), ""
		if certificate == key {
			what = "Exim must read the certificate: set tls_certificate = " + certificate
		}
	case c.Diff() != "":
		what = "change the file like this, then: "
	}
	absent := missing(c.want)
	switch join := strings.Join(c.join(), " ") + " && "; {
	case absent && c.member:
		return "by hand: first run `" + join + "mxcert renew`, which writes the files; then " + what + commands
	case absent:
		return "by hand: first run `mxcert renew`, which writes the files; then " + what + commands
	case c.member:
		return "by hand: " + what + join + commands
	}
	return "by hand: " + what + commands
}

// join returns the command that lets Exim's user read the keys of the service.
func (c *EximChange) join() []string { return []string{"usermod", "-aG", keysGroup, c.exim.User} }

// Apply makes the change and reloads Exim. If Exim is not running, it reads the change when it starts. A reload is enough for new macros and
// for a new group, because Exim then executes itself again. If Exim does not accept the change, Apply restores the files. If the
// certificate's files do not exist, Apply first makes them, for Exim to have a certificate until the first renewal.
func (c *EximChange) Apply(ctx context.Context) (done []string, err error) {
	if c.member {
		if err := must(ctx, c.join()...); err != nil {
			return nil, err
		}
		done = append(done, fmt.Sprintf("%s is a member of the group %s, which may read the keys in %s", c.exim.User, keysGroup, keysDirectory))
	}
	made, err := provide(c.want, c.exim.Pairs, c.names, c.exim.User)
	done = append(done, made...)
	if err != nil {
		return done, err
	}
	written, before, err := c.write()
	if err != nil {
		return done, err
	}
	reloaded := false
	if err = c.prove(ctx); err == nil {
		reloaded, err = reload(ctx, smtpPorts())
	}
	if err != nil {
		return done, errors.Join(fmt.Errorf("%w; Exim was not reloaded, and mxcert has restored its configuration", err), c.restore(context.WithoutCancel(ctx), before))
	}
	done = append(done, written...)
	if !reloaded {
		return append(done, "Exim is not running; from its start on it reads "+pairsText(c.want)), nil
	}
	return append(done, "reloaded "+eximUnit+": Exim reads "+pairsText(c.want)), nil
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
	if err == nil && !slices.Equal(now.Pairs, c.want) {
		err = fmt.Errorf("with these macros, Exim would still read %s: another part of its configuration says so", finding.Quote(now.Setting, 200))
	}
	if err != nil {
		return err
	}
	var targets []deploy.Target
	for _, p := range c.want {
		target := deploy.Target{Kind: exim, Certificate: p.Certificate, PrivateKey: p.Key}
		if p.Certificate == p.Key {
			target = deploy.Target{Kind: exim, Combined: p.Key}
		}
		targets = append(targets, target)
	}
	return discover.TryExim(ctx, targets)
}

// write writes the files of macros, all or none. before is what was there; a new file is readable for everybody, as Debian's are.
func (c *EximChange) write() (written []string, before []old, err error) {
	var list []file
	for _, changed := range c.edit.Files() {
		was, err := lookAt(changed.Path)
		if err != nil {
			return nil, nil, err
		}
		f := was.file
		if !was.exists {
			f.mode = 0o644
		}
		f.text = changed.New
		list, before = append(list, f), append(before, was)
	}
	written, err = writeAll(list)
	return written, before, err
}

// restore writes the old macros back, and builds the configuration from them again.
func (c *EximChange) restore(ctx context.Context, before []old) error {
	if len(before) == 0 {
		return nil
	}
	return errors.Join(putBack(before), must(ctx, "update-exim4.conf"))
}

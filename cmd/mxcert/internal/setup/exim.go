package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mxcert/acme/finding"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// keysGroup is the group of keysDirectory; the user of a mail server must be a member to read keys there.
const keysGroup = "mxcert-keys"

// EximChange is the change that makes Exim read the certificate. On Debian it consists of lines in a file of macros and a group for Exim's
// user.
type EximChange struct {
	Debian bool // otherwise the operator must make the change

	want   deploy.Pair
	exim   discover.EximSetup
	member bool // Exim's user must become a member of keysGroup
	old    oldFile
	edit   *macroFile
}

// oldFile is a file as it was found.
type oldFile struct {
	exists   bool
	text     string
	mode     fs.FileMode
	uid, gid int
}

// PlanExim finds the change that makes Exim read the files in the answers. It returns nil if Exim reads them already.
func PlanExim(host Host, answers *Answers) (*EximChange, error) {
	c := &EximChange{want: deploy.Pair{Certificate: answers.Certificate, Key: answers.Key}, exim: host.Exim, edit: &macroFile{}}
	reads := host.Exim.Pair == c.want
	c.Debian = host.Exim.Macros != ""
	c.member = c.Debian && strings.HasPrefix(c.want.Key, keysDirectory) && lacksGroup(c.exim.User, keysGroup)
	if reads && !c.member {
		return nil, nil //nolint:nilnil // there is nothing to change
	}
	if reads || !c.Debian {
		return c, nil
	}
	var err error
	if c.old, err = readOld(c.exim.Macros); err != nil {
		return nil, err
	}
	earlier, err := readEarlier(c.exim.Macros)
	if err != nil {
		return nil, err
	}
	c.edit = editMacros(c.old.text, earlier, c.want.Certificate, c.want.Key)
	return c, nil
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

func readOld(path string) (oldFile, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return oldFile{mode: 0o644, uid: -1, gid: -1}, nil
	}
	if err != nil {
		return oldFile{}, err
	}
	text, err := os.ReadFile(path)
	old := oldFile{exists: true, text: string(text), mode: info.Mode().Perm(), uid: -1, gid: -1}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		old.uid, old.gid = int(stat.Uid), int(stat.Gid)
	}
	return old, err
}

// readEarlier returns what Exim reads before a file of a split configuration: the files of the same directory, in the order of
// their names. It returns "" for the single file of an unsplit configuration.
func readEarlier(path string) (string, error) {
	if filepath.Base(filepath.Dir(path)) != "main" {
		return "", nil
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var earlier strings.Builder
	for _, e := range entries {
		if e.Name() >= filepath.Base(path) || strings.Contains(e.Name(), ".") || !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if err != nil {
			return "", err
		}
		earlier.Write(append(text, '\n'))
	}
	return earlier.String(), nil
}

// Diff returns the lines that change; "" if there are none.
func (c *EximChange) Diff() string {
	if !c.edit.changed() {
		return ""
	}
	var diff strings.Builder
	fmt.Fprintf(&diff, "--- %s\n+++ %s\n", c.exim.Macros, c.exim.Macros)
	for _, line := range c.edit.removed {
		fmt.Fprintf(&diff, "-%s\n", line)
	}
	for _, line := range c.edit.added {
		fmt.Fprintf(&diff, "+%s\n", line)
	}
	return diff.String()
}

// ByHand says how the operator makes the change.
func (c *EximChange) ByHand() string {
	if !c.Debian && c.want.Certificate == c.want.Key {
		return "Exim must read the certificate: set tls_certificate = " + c.want.Certificate
	}
	if !c.Debian {
		return fmt.Sprintf("Exim must read the certificate: set tls_certificate = %s and tls_privatekey = %s", c.want.Certificate, c.want.Key)
	}
	commands := "update-exim4.conf && systemctl reload exim4"
	if c.member {
		commands = strings.Join(c.join(), " ") + " && " + commands
	}
	if c.edit.changed() {
		return "by hand: change the file like this, then: " + commands
	}
	return "by hand: " + commands
}

// join returns the command that lets Exim's user read the keys of the service.
func (c *EximChange) join() []string { return []string{"usermod", "-aG", keysGroup, c.exim.User} }

// Apply makes the change and reloads Exim. reloaded is false if Exim is not running; it then reads the change when it starts. A
// reload is enough for new macros and for a new group, because Exim then executes itself again. If Exim does not accept the
// change, Apply restores the file.
func (c *EximChange) Apply(ctx context.Context) (reloaded bool, err error) {
	if c.member {
		if err := must(ctx, c.join()...); err != nil {
			return false, err
		}
	}
	if c.edit.changed() {
		if err := WriteFile(c.exim.Macros, c.edit.text(), c.old.mode, c.old.uid, c.old.gid); err != nil {
			return false, err
		}
	}
	if err = c.prove(ctx); err == nil {
		reloaded, err = reload(ctx, smtpPorts())
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("%w; Exim was not reloaded, and mxcert has restored %s", err, c.exim.Macros), c.restore(context.WithoutCancel(ctx)))
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
	return err
}

// restore writes the old macros back, and builds the configuration from them again.
func (c *EximChange) restore(ctx context.Context) error {
	if !c.edit.changed() {
		return nil
	}
	put := func() error { return WriteFile(c.exim.Macros, c.old.text, c.old.mode, c.old.uid, c.old.gid) }
	if !c.old.exists {
		put = func() error { return os.Remove(c.exim.Macros) }
	}
	if err := put(); err != nil {
		return err
	}
	return must(ctx, "update-exim4.conf")
}

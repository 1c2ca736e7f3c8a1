package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/hooks/unit"
)

// Draft is a configuration that has been checked but not written yet.
type Draft struct {
	text    string
	secrets map[string]string // by the name of the file in the credentials directory
	config  *configs.Config
}

// Draft makes the configuration of complete answers. The error is the one that mxcert check would report.
func (a *Answers) Draft() (*Draft, error) {
	moved := *a
	var err error
	d := &Draft{}
	if d.secrets, err = moved.moveSecrets(); err != nil {
		return nil, err
	}
	d.text = moved.text()
	d.config, err = configs.Parse("the new configuration", []byte(d.text))
	if err != nil {
		return d, fmt.Errorf("the answers do not make a valid configuration: %w", err)
	}
	return d, wanted.Check(d.config)
}

// Write writes the configuration to path, and the secrets to the directory credentials beside it, for root and the service's group. With
// reload, it also writes the polkit rule that lets the service reload the units of the configuration. It keeps older files as PATH.old. It
// writes all files or none, and returns a line for each file that has changed.
func (d *Draft) Write(path string, reload bool) (written []string, err error) {
	directory, gid := filepath.Dir(path), serviceGroup()
	credentials := filepath.Join(directory, "credentials")
	if err := errors.Join(os.MkdirAll(directory, 0o755), os.MkdirAll(credentials, 0o750)); err != nil {
		return nil, err
	}
	// Set owner and mode also if the directories exist, and despite the umask.
	if err := errors.Join(os.Chmod(directory, 0o755), os.Lchown(credentials, -1, gid), os.Chmod(credentials, 0o750)); err != nil {
		return nil, err
	}
	var list []file
	for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
		list = append(list, file{filepath.Join(credentials, name), d.secrets[name] + "\n", 0o640, -1, gid, true})
	}
	if rule := d.rule(); reload && rule != "" {
		if err := os.MkdirAll(filepath.Dir(unit.PolkitFile), 0o755); err != nil {
			return nil, err
		}
		list = append(list, file{unit.PolkitFile, rule, 0o644, -1, -1, false}) // polkitd does not run as root
	}
	return writeAll(append(list, file{path, d.text, 0o640, -1, gid, true}))
}

// rule returns the polkit rule for the units; "" if there are none.
func (d *Draft) rule() string {
	h, _ := wanted.From(d.config) // no chain is checked here
	if len(h.Units()) == 0 {
		return ""
	}
	return unit.PolkitRule(unit.Names(h.Units()))
}

// keepOld keeps a file that is about to be replaced under a second name.
func keepOld(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path + ".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, path+".old")
}

// serviceGroup returns the group of the service; -1 if the host does not have one.
func serviceGroup() int {
	g, err := user.LookupGroup(unit.ServiceUser)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return gid
}

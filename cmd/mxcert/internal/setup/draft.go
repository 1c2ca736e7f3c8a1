package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/hooks/unit"
)

// Draft is a configuration that has been checked but not written yet.
type Draft struct {
	text    string
	secrets map[string]string // by the name of the file in the credentials directory
}

// Draft makes the configuration of complete answers. The error is the one that mxcert check would report.
func (a *Answers) Draft() (*Draft, error) {
	env, secrets, err := a.moveSecrets()
	if err != nil {
		return nil, err
	}
	moved := *a
	moved.Env = env
	d := &Draft{text: moved.text(), secrets: secrets}
	return d, d.check()
}

func (d *Draft) check() error {
	file, err := os.CreateTemp("", "mxcert-init-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(d.text)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	config, err := configs.Load(file.Name())
	if err != nil {
		return fmt.Errorf("the answers do not make a valid configuration: %w", err)
	}
	return wanted.Check(config)
}

// Write writes the configuration to path and the secrets to the directory credentials beside it, for root and the service's
// group. It keeps an existing configuration as path.old.
func (d *Draft) Write(path string) error {
	directory, gid := filepath.Dir(path), serviceGroup()
	credentials := filepath.Join(directory, "credentials")
	if err := errors.Join(os.MkdirAll(directory, 0o755), os.MkdirAll(credentials, 0o750)); err != nil {
		return err
	}
	// Set owner and mode also if the directories exist, and despite the umask.
	if err := errors.Join(os.Chmod(directory, 0o755), os.Lchown(credentials, -1, gid), os.Chmod(credentials, 0o750)); err != nil {
		return err
	}
	for name, value := range d.secrets {
		if err := WriteFile(filepath.Join(credentials, name), value+"\n", 0o640, -1, gid); err != nil {
			return err
		}
	}
	if err := keepOld(path); err != nil {
		return err
	}
	return WriteFile(path, d.text, 0o640, -1, gid)
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

package state

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
)

// RunningConfig is the path of the configuration that the daemon works with, complete with defaults and with references
// in place of secrets. It is what `status` reads while the real file is broken.
func (d *Dir) RunningConfig() string { return filepath.Join(d.path, "running.yaml") }

// SaveRunningConfig stores that configuration.
func (d *Dir) SaveRunningConfig(text []byte) error { return writeFile(d.RunningConfig(), text) }

// LockDaemon makes this process the one daemon of the directory, until unlock or its end. ErrLocked (wrapped) says that
// there is another.
func (d *Dir) LockDaemon() (unlock func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // one try
	return lock(ctx, filepath.Join(d.path, "daemon.lock"))
}

// SaveDaemon stores what the daemon tells about itself, as JSON.
func (d *Dir) SaveDaemon(v any) error { return writeJSON(filepath.Join(d.path, "daemon.json"), v) }

// Daemon reads what SaveDaemon stored.
func (d *Dir) Daemon(v any) error {
	path := filepath.Join(d.path, "daemon.json")
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	return failed("read", path, err)
}

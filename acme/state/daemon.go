package state

import (
	"context"
	"encoding/json"
)

const (
	daemonKey  = "daemon.json"
	runningKey = "running.yaml"
)

// RunningConfig is the path of the configuration that the daemon works with, complete with defaults and with references
// in place of secrets. `status` reads it while the real file is broken.
func (b *Book) RunningConfig() string { return b.store.Path(runningKey) }

// SaveRunningConfig stores that configuration.
func (b *Book) SaveRunningConfig(text []byte) error { return b.store.Replace(runningKey, text) }

// LockDaemon makes this process the one daemon of the store, until unlock or its end. ErrLocked (wrapped) means that
// there is another.
func (b *Book) LockDaemon() (unlock func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // one try
	return b.store.Lock(ctx, "daemon.lock")
}

// SaveDaemon stores what the daemon says about itself, as JSON.
func (b *Book) SaveDaemon(v any) error { return b.write(daemonKey, v) }

// Daemon reads what SaveDaemon stored.
func (b *Book) Daemon(v any) error {
	text, err := b.store.Read(daemonKey)
	if err != nil {
		return err
	}
	return b.failed("read", daemonKey, json.Unmarshal(text, v))
}

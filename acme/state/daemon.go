package state

import (
	"context"
)

const (
	daemonKey  = "daemon.json"
	runningKey = "running.yaml"
)

// RunningConfig reads the configuration that the daemon works with, complete with defaults and with references in place of
// secrets. `status` works with it while the real file is broken. The name is for messages: the path of the file, if there is one.
func (b *Book) RunningConfig() (name string, text []byte, err error) {
	text, err = b.store.Read(runningKey)
	return b.name(runningKey), text, err
}

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
	return b.failed("read", daemonKey, parse(text, v))
}

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

// Topic names something that is remembered about the host as a whole, beside the lineages.
type Topic string

// The topics. What each stores is the matter of the room that uses it; it starts with a version.
const (
	Alarms       Topic = "alarms"       // what people were told, and what waits to be sent
	Transparency Topic = "transparency" // certificates of our names in the logs
	Reported     Topic = "reported"     // what senders have reported
	Fleet        Topic = "fleet"        // which generations of the fleet were here, and how its store is
)

// Remembered reads what is remembered about a topic. The error is fs.ErrNotExist if nothing is.
func (b *Book) Remembered(t Topic, v any) error { return b.read(string(t)+".json", v) }

// Remember stores what is to be remembered about a topic, durably. Its version must be [Version].
func (b *Book) Remember(t Topic, v any) error { return b.write(string(t)+".json", v) }

// SetAside keeps what is remembered about a topic under another name, because it is damaged, and returns the last element of that name; "" if
// it cannot be renamed.
func (b *Book) SetAside(t Topic) (string, error) { return b.setAside(string(t) + ".json") }

// Hold makes this process the only one that works on a topic, until release or its end. It waits until ctx ends; then the error is ErrLocked
// (wrapped).
func (b *Book) Hold(ctx context.Context, t Topic) (release func(), err error) {
	return b.store.Lock(ctx, string(t)+".lock")
}

// Daemon reads what SaveDaemon stored.
func (b *Book) Daemon(v any) error {
	text, err := b.store.Read(daemonKey)
	if err != nil {
		return err
	}
	return b.failed("read", daemonKey, parse(text, v))
}

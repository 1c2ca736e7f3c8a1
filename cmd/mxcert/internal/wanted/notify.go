package wanted

import (
	"time"

	"mxcert/configs"
	"mxcert/hooks/notify"
)

// Channel is a way to tell people, as the configuration names it. Exactly one of Sender and Pinger is set. Both read their secrets each time
// they are used, and may be used concurrently.
type Channel struct {
	Name   string
	Kind   string         // mail, webhook, exec or ping
	Repeat time.Duration  // how often what is still wrong is told again; 0: never
	Sender notify.Channel // of mail, webhook and exec
	Pinger notify.Pinger  // of ping
}

// Channels returns the channels in the order of the configuration.
func (h *Host) Channels() []Channel { return nil }

var _ configs.Channel

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/mx"
	"mxcert/hooks/notify"
)

// Sent is what became of a test message.
type Sent struct {
	Name  string      `json:"name"` // of the channel
	Kind  string      `json:"kind"` // mail, webhook, exec or ping
	OK    bool        `json:"ok"`
	Error string      `json:"error"`   // "" if it was sent
	Hint  string      `json:"hint"`    // what to do
	Took  int64       `json:"took_ms"` // milliseconds
	Code  report.Code `json:"code"`    // the exit code that this channel alone would give
}

// ChooseChannels returns the channels of the given names, each once, or all if names is empty. The error lists the channels of the
// configuration.
func ChooseChannels(host *wanted.Host, names []string) ([]wanted.Channel, error) {
	all := host.Channels()
	if len(names) == 0 {
		return all, nil
	}
	var list []wanted.Channel
	for _, name := range names {
		i := slices.IndexFunc(all, func(c wanted.Channel) bool { return c.Name == name })
		if i < 0 {
			known := make([]string, len(all))
			for i, c := range all {
				known[i] = c.Name
			}
			return nil, fmt.Errorf("the configuration has no channel %q; it has: %s", name, cmp.Or(strings.Join(known, ", "), "none"))
		}
		if !slices.ContainsFunc(list, func(c wanted.Channel) bool { return c.Name == name }) {
			list = append(list, all[i])
		}
	}
	return list, nil
}

// SendTest sends a test message by each channel, several at once, and says what became of each.
func SendTest(ctx context.Context, channels []wanted.Channel) []Sent {
	host := mx.HostName() // as in other messages
	if host == "" {
		host, _ = os.Hostname()
	}
	return together(channels, func(c wanted.Channel) Sent {
		start := time.Now()
		err := sendTest(ctx, c, host)
		sent := Sent{Name: c.Name, Kind: c.Kind, OK: err == nil, Took: time.Since(start).Milliseconds(), Code: report.CodeOf(err)}
		if err != nil {
			sent.Error, sent.Hint = report.OneLine(err.Error()), report.HintOf(err)
		}
		return sent
	})
}

func sendTest(ctx context.Context, c wanted.Channel, host string) error {
	text := fmt.Sprintf("This is a test. Somebody ran mxcert notify test on %s.\n\nmxcert can tell you by the channel %s.\n", host, c.Name)
	if c.Pinger != nil {
		return c.Pinger.Ping(ctx, true, text)
	}
	return c.Sender.Send(ctx, notify.Message{Version: 1, Host: host, Event: notify.Test, Subject: "mxcert on " + host + ": a test message", Text: text, At: time.Now(), Matters: []notify.Matter{}})
}

// AskTest has a running daemon send the test messages: with its secrets and its rights, as it would send others. release is the version that
// the daemon must have, and fingerprint the configuration that it must work with. The error is ErrNone if no such daemon runs.
func AskTest(ctx context.Context, store *state.Book, release, fingerprint string, channels []string) ([]Sent, error) {
	if running := Running(store); running == nil || running.Version != release {
		return nil, ErrNone // a daemon of another version may not know what is asked
	}
	last, err := ask(ctx, store, Order{Look: true, Notify: true, Channels: channels, Fingerprint: fingerprint}, func(string, string, string) {})
	if err == nil && last.Sent == nil {
		err = errors.New("the daemon does not say what became of the messages")
	}
	return last.Sent, err
}

// sendTest answers AskTest.
func (d *Daemon) sendTest(ctx context.Context, host *wanted.Host, names []string) line {
	channels, err := ChooseChannels(host, names)
	if err != nil {
		return line{Refuse: err.Error()}
	}
	return line{Sent: append([]Sent{}, SendTest(ctx, channels)...)}
}

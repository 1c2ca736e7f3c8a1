package wanted

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
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
	AsRoot bool           // its program needs the rights of root: what the service's sandbox does not let it do
}

// Deputy sends a message of a channel that needs the rights of root: through a helper, or with here if this process has them.
type Deputy func(ctx context.Context, here notify.Channel, m notify.Message) error

// SendAsRoot says who sends the messages of channels that need the rights of root. Without it, this process does. Call it before the first
// message.
func (h *Host) SendAsRoot(deputy Deputy) { h.deputy = deputy }

// Channels returns the channels in the order of the configuration.
func (h *Host) Channels() []Channel {
	list := make([]Channel, 0, len(h.channels))
	for _, c := range h.channels {
		list = append(list, h.channel(c))
	}
	return list
}

// Channel returns the channel of that name.
func (h *Host) Channel(name string) (Channel, bool) {
	for _, c := range h.channels {
		if c.Name == name {
			return h.channel(c), true
		}
	}
	return Channel{}, false
}

func (h *Host) channel(c configs.Channel) Channel {
	out := Channel{Name: c.Name, Kind: c.Kind, Repeat: c.Repeat}
	secret := func(s configs.Secret) notify.Secret {
		return func() (string, error) {
			value, err := h.secrets.read(s)
			if err != nil {
				err = &secretError{err, s}
			}
			return value, err
		}
	}
	switch c.Kind {
	case "mail":
		m := notify.Mail{To: c.Mail.To, From: c.Mail.From}
		if via := c.Mail.Via; via.SMTP != "" {
			m.Relay = &notify.Relay{Address: via.SMTP, User: via.User, Password: secret(via.Password), CAFile: via.CAFile}
		}
		out.Sender, out.AsRoot = notify.NewMail(c.Name, m), m.Relay == nil
	case "webhook":
		out.Sender = notify.NewWebhook(c.Name, notify.Webhook{URL: secret(c.Webhook.URL), Body: c.Webhook.Body, CAFile: c.Webhook.CAFile})
	case "exec":
		out.Sender, out.AsRoot = notify.NewExec(c.Name, c.Exec), true
	case "ping":
		out.Pinger = notify.NewPing(c.Name, secret(c.Ping))
	}
	if out.AsRoot && h.deputy != nil {
		out.Sender = &deputised{out.Sender, h.deputy}
	}
	return out
}

// secretError says that a secret cannot be read. The message can be sent when somebody has put it there.
type secretError struct {
	error

	secret configs.Secret
}

// Unwrap returns the cause.
func (e *secretError) Unwrap() error { return e.error }

// Kind is "permission": the exit code of commands.
func (e *secretError) Kind() string { return "permission" }

// Temporary is true.
func (e *secretError) Temporary() bool { return true }

// Hint says what to do.
func (e *secretError) Hint() string {
	hint := "correct it, and let only the service's user read it: chown root:mxcert FILE; chmod 0640 FILE"
	switch {
	case strings.HasPrefix(string(e.secret), "env:"):
		hint = "set the variable where the service starts, or write cred:NAME and put the value into /etc/mxcert/credentials/NAME"
	case errors.Is(e.error, fs.ErrNotExist):
		hint = "put the value there, readable by the service's user"
	}
	return cmp.Or(hintOf(e.error), hint)
}

// deputised is a channel whose messages a deputy sends.
type deputised struct {
	notify.Channel

	deputy Deputy
}

// Send has the deputy send the message.
func (d *deputised) Send(ctx context.Context, m notify.Message) error {
	return d.deputy(ctx, d.Channel, m)
}

// Probe tests what sending needs, as far as this process can.
func (d *deputised) Probe(ctx context.Context, online bool) error {
	return d.Channel.(notify.Prober).Probe(ctx, online) //nolint:forcetypeassert // every channel of the package is one
}

// Probe tests whether a channel could be used, without sending anything. If online is set, it connects to a relay and logs in.
func (c Channel) Probe(ctx context.Context, online bool) error {
	var channel any = c.Pinger
	if c.Sender != nil {
		channel = c.Sender
	}
	return channel.(notify.Prober).Probe(ctx, online) //nolint:forcetypeassert // see deputised
}

// Where says in a few words where messages of the channel go, without a secret.
func (h *Host) Where(name string) string {
	for _, c := range h.channels {
		switch {
		case c.Name != name:
		case c.Kind == "mail" && c.Mail.Via.SMTP != "":
			return "mail to " + strings.Join(c.Mail.To, ", ") + " by " + c.Mail.Via.SMTP
		case c.Kind == "mail":
			return "mail to " + strings.Join(c.Mail.To, ", ") + " by sendmail"
		case c.Kind == "webhook":
			return "webhook, URL from " + c.Webhook.URL.String()
		case c.Kind == "exec":
			return "program " + c.Exec
		case c.Kind == "ping":
			return "ping, URL from " + c.Ping.String()
		}
	}
	return ""
}

// channelSecrets are the secrets of the channels, by their settings.
func channelSecrets(channels []configs.Channel) (list []setting) {
	for i, c := range channels {
		p := fmt.Sprintf("notify[%d].", i)
		for _, s := range []setting{{p + "mail.via.password", c.Mail.Via.Password}, {p + "webhook.url", c.Webhook.URL}, {p + "ping", c.Ping}} {
			if s.secret != "" {
				list = append(list, s)
			}
		}
	}
	return list
}

// setting is a secret and its path in the configuration.
type setting struct {
	path   string
	secret configs.Secret
}

// CheckFiles finds faults in files that the configuration names and that keep nothing from running, because mail is worth more: those for people
// who are told (programs that cannot be run, or that others could write, templates, roots, a textfile that cannot be written), and the client
// certificate for the store of a fleet. They are faults for those who check.
func CheckFiles(config *configs.Config) []configs.Problem {
	list, _ := checkTextfile(config)
	note := func(path string, err error) {
		if err == nil || errors.Is(err, fs.ErrPermission) { // not everybody who checks may look there
			return
		}
		p := config.At(path)
		p.Message, p.Hint = path+": "+err.Error(), hintOf(err)
		list = append(list, p)
	}
	for i, c := range config.Notify {
		path := fmt.Sprintf("notify[%d].", i)
		if c.Kind == "exec" {
			note(path+"exec", notify.CheckProgram(c.Exec))
		}
		if strings.HasPrefix(c.Webhook.Body, "/") {
			note(path+"webhook.body", notify.CheckTemplate(c.Webhook.Body))
		}
		note(path+"webhook.ca_file", notify.CheckRoots(c.Webhook.CAFile))
		note(path+"mail.via.ca_file", notify.CheckRoots(c.Mail.Via.CAFile))
	}
	return append(list, clientProblems(config, false)...)
}

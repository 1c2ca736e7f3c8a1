package helper

import (
	"context"
	"errors"
	"fmt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/notify"
)

// eventNotify is the event of an order to send a message. It runs no hooks.
const eventNotify = "notify"

// Send sends a message of a channel that needs the rights of root: through the helper if this process needs one, otherwise with here. It is a
// [wanted.Deputy].
//
// The sandbox of the service is why: there, neither Exim's nor Postfix' sendmail can become the user who owns the queue, and a program cannot
// write where it wants to.
func Send(ctx context.Context, here notify.Channel, m notify.Message) error {
	return NewClient().Notify(ctx, here, m)
}

// Notify is Send for this client.
func (c *Client) Notify(ctx context.Context, here notify.Channel, m notify.Message) error {
	if c.Directory == "" {
		return here.Send(ctx, m)
	}
	conn, err := c.dial(ctx, Hook)
	if err != nil {
		return notSent(ctx, err, true)
	}
	defer conn.Close()
	m = m.Clean()
	var answer hookAnswer
	if err := conn.ask(ctx, hookOrder{Event: eventNotify, Name: here.Name(), Message: &m}, &answer); err != nil {
		return notSent(ctx, err, true)
	}
	return notSent(ctx, answer.Error.orNil(), answer.Temporary)
}

// unsent is an error of a message that went through the helper.
type unsent struct {
	error

	temporary bool
}

// Temporary reports whether the same message may be sent later.
func (e *unsent) Temporary() bool { return e.temporary }

// Unwrap returns the error that says more.
func (e *unsent) Unwrap() error { return e.error }

func notSent(ctx context.Context, err error, temporary bool) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &unsent{err, temporary}
}

// isMail reports whether an order, which was obeyed, has sent a mail.
func isMail(host *wanted.Host, text []byte) bool {
	order, err := parseHook(text)
	channel, _ := host.Channel(order.Name)
	return err == nil && order.Event == eventNotify && channel.Kind == "mail"
}

// obeyNotify sends a message by a channel of the configuration. The configuration, which only root can write, says to whom or with which
// program. The message is text from the service: it is bounded and cleaned, and goes to standard input only.
func obeyNotify(ctx context.Context, host *wanted.Host, order hookOrder) (answer hookAnswer, refused error) {
	channel, configured := host.Channel(order.Name)
	switch {
	case !configured:
		refused = fmt.Errorf("the configuration has no channel %.80q", order.Name)
	case !channel.AsRoot:
		refused = fmt.Errorf("the channel %s needs no rights of root", channel.Name)
	case order.Message == nil || order.Failure != nil || order.Changed || !order.Bundle.none():
		refused = errors.New("an order to send a message has a message, and nothing else")
	default:
		err := channel.Sender.Send(ctx, order.Message.Clean())
		return hookAnswer{Error: newError(err), Temporary: report.IsTemporary(err)}, nil
	}
	return hookAnswer{Error: newError(refused)}, refused
}

package alarm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/journal"
	"mxcert/hooks/notify"
)

const (
	// tryTime limits one try to send a message.
	tryTime = time.Minute
	// firstPause is how long a channel that could not deliver waits. Each further failure makes that twice as long, up to mostPause.
	firstPause, mostPause = 30 * time.Second, time.Hour
)

// sender sends the messages of a channel, one after another. It has a goroutine while it has something to send.
type sender struct {
	teller  *Teller
	channel wanted.Channel
	busy    bool
	ended   bool
	timer   *time.Timer // of its next try; nil if there is none
}

// send starts to send what waits. If the configuration is a new one, it does not wait for the time of the next try. The caller holds t.mu.
func (t *Teller) send(ctx context.Context, channels []wanted.Channel, reloaded bool) {
	configured := map[string]bool{}
	for _, c := range channels {
		if c.Sender == nil {
			continue
		}
		configured[c.Name] = true
		s := t.senders[c.Name]
		if s == nil {
			s = &sender{teller: t}
			t.senders[c.Name] = s
		}
		s.channel = c
		if reloaded {
			t.book.Lanes[c.Name].next = time.Time{}
		}
		s.start(ctx)
	}
	for name, s := range t.senders {
		if !configured[name] {
			s.stop()
			delete(t.senders, name)
		}
	}
}

// stop ends the sender after the message that it sends now. The caller holds the teller's mu.
func (s *sender) stop() {
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// lane returns what the book has about the channel; nil if that does not matter any more. The caller holds the teller's mu.
func (s *sender) lane() *lane {
	if s.ended || s.teller.book == nil {
		return nil
	}
	return s.teller.book.Lanes[s.channel.Name]
}

// start begins to send, now or at the time of the next try. The caller holds the teller's mu.
func (s *sender) start(ctx context.Context) {
	l := s.lane()
	if l == nil || s.busy || len(l.Queue) == 0 || ctx.Err() != nil {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if wait := time.Until(l.next); wait > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			s.teller.mu.Lock()
			defer s.teller.mu.Unlock()
			if s.timer == timer { // otherwise it was started again in the same moment
				s.timer = nil
				s.start(ctx)
			}
		})
		s.timer = timer
		return
	}
	s.busy = true
	s.teller.working.Go(func() { s.work(ctx) })
}

// work sends until nothing is left, or until that fails.
func (s *sender) work(ctx context.Context) {
	for {
		s.teller.mu.Lock()
		l := s.lane()
		if l == nil || len(l.Queue) == 0 || ctx.Err() != nil || time.Until(l.next) > 0 {
			s.busy = false
			s.start(ctx)
			s.teller.mu.Unlock()
			return
		}
		channel, before, more := s.channel, l.Queue[0], l.More
		s.teller.mu.Unlock()
		err := attempt(ctx, func(ctx context.Context) error { return channel.Sender.Send(ctx, dropped(before, more)) })
		s.teller.mu.Lock()
		switch l := s.lane(); {
		case l == nil:
		case err == nil:
			s.delivered(l, before, more)
		case someHaveIt(err):
			s.partly(l, before, more, err)
		case ctx.Err() == nil:
			s.failed(l, err)
		}
		s.teller.mu.Unlock()
	}
}

// attempt calls a channel with a limit of time. A panic is an error.
func attempt(ctx context.Context, do func(context.Context) error) (err error) {
	limited, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the channel failed: %v", p)
		}
	}()
	return do(limited)
}

// sent removes a message that was sent. The queue may have lost it meanwhile, because it was full.
func (l *lane) sent(m notify.Message, more int) {
	if len(l.Queue) > 0 && same(l.Queue[0], m) {
		l.Queue = l.Queue[1:]
	} else {
		more++
	}
	l.More = max(0, l.More-more)
	l.Tries, l.next = 0, time.Time{}
}

// partly notes that some recipients have a message, and others do not. It is not sent again, because it would come to the first ones each
// time, and keep newer ones from them.
func (s *sender) partly(l *lane, m notify.Message, more int, err error) {
	t, text := s.teller, finding.Quote(err.Error(), finding.MostQuoted)
	l.sent(m, more)
	if l.Failing.IsZero() || l.Error != text {
		t.log.Warn("a channel cannot deliver to all", "channel", s.channel.Name, "error", text, "hint", hintOf(err), journal.NotTold.Attr())
	}
	if l.Failing.IsZero() {
		l.Failing = time.Now().UTC().Truncate(time.Second)
	}
	l.Error = text
	t.counts(s.channel.Name, "failure")
	t.save(false)
}

// delivered removes a message that everybody has.
func (s *sender) delivered(l *lane, m notify.Message, more int) {
	t := s.teller
	l.sent(m, more)
	if !l.Failing.IsZero() {
		t.log.Info("a channel delivers again", "channel", s.channel.Name, "since", l.Failing.Format(time.RFC3339))
	}
	l.Failing, l.Error = time.Time{}, ""
	t.counts(s.channel.Name, "success")
	t.save(false)
}

// same reports whether two messages are one: no two of the same event are made at the same second.
func same(a, b notify.Message) bool {
	return a.At.Equal(b.At) && a.Event == b.Event && a.Text == b.Text
}

// failed notes a failure, and when to try again. What trying again cannot help waits as well: a person may repair it.
func (s *sender) failed(l *lane, err error) {
	t, now := s.teller, time.Now().UTC().Truncate(time.Second)
	pause := mostPause
	var passing interface{ Temporary() bool }
	if errors.As(err, &passing) && passing.Temporary() || errors.Is(err, context.DeadlineExceeded) {
		pause = min(mostPause, firstPause<<min(l.Tries, 10))
	}
	pause = max(pause, leftAlone(err))
	text := finding.Quote(err.Error(), finding.MostQuoted)
	if l.Tries == 0 || l.Error != text {
		t.log.Warn("a channel cannot deliver", "channel", s.channel.Name, "waiting", len(l.Queue), "next_try", now.Add(pause).Format(time.RFC3339), "error", text, "hint", hintOf(err), journal.NotTold.Attr())
	}
	if l.Failing.IsZero() {
		l.Failing = now
	}
	l.Error, l.Tries, l.next, l.pause = text, min(l.Tries+1, 1000), now.Add(pause), pause
	t.counts(s.channel.Name, "failure")
	t.save(false)
}

// someHaveIt reports whether some recipients have the message.
func someHaveIt(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Partly() bool
	}](err)
	return ok && e.Partly()
}

// leftAlone returns how long the other side wants to be left alone (Retry-After); 0 if it did not say.
func leftAlone(err error) time.Duration {
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return e.RetryAfter()
	}
	return 0
}

// hintOf says what to do about an error of a channel; "" if the error does not say.
func hintOf(err error) string {
	if e, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return finding.Quote(e.Hint(), mostText)
	}
	return ""
}

// counts counts a message.
func (t *Teller) counts(channel, result string) {
	if t.count != nil {
		t.count(channel, result)
	}
}

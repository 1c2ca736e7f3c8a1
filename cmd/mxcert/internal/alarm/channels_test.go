package alarm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/hooks/notify"
)

// busy is an answer with Retry-After.
type busy struct {
	error

	after time.Duration
}

func (busy) Temporary() bool             { return true }
func (b busy) RetryAfter() time.Duration { return b.after }

// A server that wants to be left alone is left alone for as long as it says, also by a dead man's switch, which must be heard each hour.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat, alive := &channel{name: "chat"}, &channel{name: "alive"}
		chat.fails(busy{errors.New("HTTP status 429"), 5 * time.Hour})
		alive.fails(busy{errors.New("HTTP status 429"), 24 * time.Hour})
		w := newWorld(t, sends(chat), pings(alive))
		defer w.start()()
		failures := func(name string) int { w.mu.Lock(); defer w.mu.Unlock(); return w.counted[name+" failure"] }
		w.pass(broken(), 2)
		elapse(5*time.Hour - 10*time.Second)
		if n := failures("chat"); n != 1 {
			t.Errorf("%d tries within the time", n)
		}
		if n := failures("alive"); n < 4 || n > 6 {
			t.Errorf("the switch was tried %d times in five hours", n)
		}
		chat.fails(nil)
		elapse(20 * time.Second)
		chat.expect(t, "alarm")
	})
}

// toSome is an answer of a relay that does not take a mail for one of several recipients.
type toSome struct{ error }

func (toSome) Partly() bool { return true }

// If one of several recipients is refused, the others get each message, once.
func TestOneOfSeveralIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := &channel{name: "desk"}
		desk.fails(toSome{errors.New("550 nobody")})
		w := newWorld(t, sends(desk))
		defer w.start()()
		w.pass(broken(), 2)
		elapse(5 * time.Hour)
		w.pass(nil, 0)
		elapse(5 * time.Hour)
		w.mu.Lock()
		tries := w.counted["desk failure"]
		w.mu.Unlock()
		_, undelivered, err := Stored(w.book, nil)
		if err != nil || tries != 2 || len(undelivered) != 1 || undelivered[0].Waiting != 0 || undelivered[0].Error != "550 nobody" {
			t.Errorf("%d messages; undelivered: %+v, %v", tries, undelivered, err)
		}
		if n := strings.Count(w.log.String(), "a channel cannot deliver to all"); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		desk.fails(nil)
		w.pass(broken(), 2)
		elapse(time.Hour)
		desk.expect(t, "alarm")
		if _, undelivered, err = Stored(w.book, nil); err != nil || len(undelivered) != 0 {
			t.Errorf("%+v, %v", undelivered, err)
		}
	})
}

// A hundred changes that nobody can be told: the queue has an end, and what came late says how many are missing, also after a restart.
func TestQueueHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat", err: errors.New("HTTP status 500")}
		w := newWorld(t, sends(chat))
		kill := w.start()
		for range mostQueued {
			w.pass(broken(), 2)
			elapse(48 * time.Hour)
			w.pass(nil, 0)
			elapse(48 * time.Hour)
		}
		_, undelivered, err := Stored(w.book, nil)
		if err != nil || len(undelivered) != 1 || undelivered[0].Waiting > mostQueued {
			t.Fatalf("%+v, %v", undelivered, err)
		}
		kill()
		chat.fails(nil)
		defer w.start()()
		w.pass(nil, 0)
		elapse(time.Hour)
		list := chat.messages()
		if len(list) == 0 || len(list) > mostQueued+1 || list[0].More == 0 || !strings.Contains(list[0].Text, fmt.Sprintf("%d", list[0].More)) {
			t.Fatalf("%d messages; the first: %+v", len(list), list[0])
		}
		if last := list[len(list)-1]; last.Event != notify.Recovered || last.More != 0 {
			t.Errorf("the last is %+v", last)
		}
	})
}

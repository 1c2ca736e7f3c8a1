package alarm

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/notify"
)

// channel is a channel, or a dead man's switch, that notes what it is given.
type channel struct {
	name  string
	hangs bool

	mu   sync.Mutex
	err  error
	got  []notify.Message
	ping []string
}

func (c *channel) Name() string { return c.name }

func (c *channel) Send(ctx context.Context, m notify.Message) error {
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.got = append(c.got, m)
	}
	return c.err
}

func (c *channel) Ping(_ context.Context, well bool, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.ping = append(c.ping, map[bool]string{true: "well", false: "fail: "}[well]+strings.TrimPrefix(text, "1 certificate, all is well"))
	}
	return c.err
}

// pings returns what a dead man's switch has heard.
func (c *channel) pings() []string { c.mu.Lock(); defer c.mu.Unlock(); return slices.Clone(c.ping) }

// messages returns what has come.
func (c *channel) messages() []notify.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// hinted is an error that says what to do.
type hinted struct{ error }

func (hinted) Hint() string { return "ask the desk" }

func (c *channel) fails(err error) { c.mu.Lock(); c.err = err; c.mu.Unlock() }

// events returns the events of the messages that came since the last call.
func (c *channel) events() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		list = append(list, string(m.Event))
	}
	c.got = nil
	return list
}

func (c *channel) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := c.events(); !slices.Equal(got, want) {
		t.Errorf("channel %s got %v, want %v", c.name, got, want)
	}
}

// world is a host with a state on disk, whose process can be killed and started again.
type world struct {
	t        *testing.T
	book     *state.Book
	log      *strings.Builder
	mu       sync.Mutex
	counted  map[string]int
	channels []wanted.Channel
	host     *wanted.Host
	hub      *tell.Hub
}

func newWorld(t *testing.T, channels ...wanted.Channel) *world {
	t.Helper()
	book, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, book: book, log: &strings.Builder{}, counted: map[string]int{}, channels: channels,
		host: &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx"}}}}
}

func sends(c *channel) wanted.Channel {
	return wanted.Channel{Name: c.name, Repeat: 24 * time.Hour, Sender: c}
}
func pings(c *channel) wanted.Channel { return wanted.Channel{Name: c.name, Kind: "ping", Pinger: c} }

// start starts a process; the returned function kills it.
func (w *world) start() (kill func()) {
	w.t.Helper()
	teller := New(slog.New(slog.NewTextHandler(w.log, nil)), "mx.example.org", func(channel, result string) {
		w.mu.Lock()
		w.counted[channel+" "+result]++
		w.mu.Unlock()
	})
	teller.of = func(*wanted.Host) []wanted.Channel { return w.channels }
	w.hub = tell.New(slog.New(slog.NewTextHandler(w.log, nil)), "1.0", teller)
	w.hub.InForce(w.host, w.book)
	dead, cancel := context.WithCancel(w.t.Context())
	cancel()
	hub := w.hub
	return func() {
		teller.mu.Lock() // nothing that it does from now on reaches the disk
		teller.close()
		teller.mu.Unlock()
		hub.Close(dead)
		synctest.Wait()
	}
}

// pass tells that a pass over mx has ended.
func (w *world) pass(e *report.Error, failures int) {
	r := report.New("mx", []string{"mx.example.org"})
	r.Keys = []report.Key{{Key: "ec256", Serial: "1f", NotBefore: time.Now().Add(-10 * 24 * time.Hour), NotAfter: time.Now().Add(80 * 24 * time.Hour)}}
	r.Stage, r.Error, r.Failures, r.Failed = report.Served, e, failures, e
	w.hub.Passed(tell.Pass{Report: r, At: time.Now()})
	elapse(2 * time.Second)
}

func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func broken() *report.Error {
	return &report.Error{Stage: "dns", Kind: "tsig", Message: "the name server refuses the update", Hint: "check the key"}
}

// A failed renewal is told at the second failure, reminded after a day, and over once; a kill at any moment changes nothing about that.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		kill := w.start()
		w.pass(broken(), 1)
		chat.expect(t)
		kill()
		kill = w.start()
		w.pass(broken(), 2)
		chat.expect(t, "alarm")
		w.pass(broken(), 3)
		kill()
		kill = w.start()
		elapse(23 * time.Hour)
		w.pass(broken(), 4)
		chat.expect(t)
		elapse(time.Hour)
		chat.expect(t, "reminder")
		kill()
		kill = w.start()
		elapse(10 * time.Hour) // no pass yet
		chat.expect(t)
		w.pass(nil, 0)
		chat.expect(t, "recovered")
		w.pass(nil, 0)
		kill()
		kill = w.start()
		w.pass(nil, 0)
		chat.expect(t)
		w.pass(broken(), 1)
		w.pass(nil, 0)
		chat.expect(t)
		kill()
		if w.counted["chat success"] != 3 {
			t.Errorf("counted %v", w.counted)
		}
	})
}

// Two failures within a second are two.
func TestTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		defer w.start()()
		w.hub.Passed(tell.Pass{Report: failing(1), At: time.Now()})
		w.hub.Passed(tell.Pass{Report: failing(1), At: time.Now().Add(time.Millisecond)})
		elapse(2 * time.Second)
		chat.expect(t, "alarm")
	})
}

// When life is short, the first failure is told.
func TestUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		defer w.start()()
		r := report.New("mx", []string{"mx.example.org"})
		r.Keys = []report.Key{{Key: "ec256", NotBefore: time.Now().Add(-80 * 24 * time.Hour), NotAfter: time.Now().Add(10 * 24 * time.Hour)}}
		r.Stage, r.Error, r.Failures, r.Failed = report.Waiting, broken(), 1, broken()
		w.hub.Passed(tell.Pass{Report: r, At: time.Now()})
		elapse(2 * time.Second)
		if len(chat.messages()) != 1 || len(chat.messages()[0].Matters) != 2 {
			t.Errorf("told %+v", chat.messages())
		}
	})
}

// A channel that fails or hangs delays no other, and gets everything when it works again.
func TestChannelsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad, hanging, alive := &channel{name: "good"}, &channel{name: "bad", err: hinted{errors.New("503")}}, &channel{name: "hanging", hangs: true}, &channel{name: "alive"}
		w := newWorld(t, sends(hanging), sends(bad), sends(good), pings(alive))
		kill := w.start()
		w.pass(nil, 0)
		w.pass(broken(), 2)
		good.expect(t, "alarm")
		w.pass(nil, 0)
		good.expect(t, "recovered")
		if want := []string{"well", "fail: mx: the renewal fails\ndns: the name server refuses the update", "well"}; !slices.Equal(alive.pings(), want) {
			t.Errorf("the switch heard %q", alive.pings())
		}
		elapse(3 * time.Hour)
		if n := len(alive.pings()); n < 5 {
			t.Errorf("the switch heard %d pings in three hours", n)
		}
		_, undelivered, err := Stored(w.book, nil)
		if err != nil || len(undelivered) != 2 || undelivered[0].Channel != "bad" || undelivered[0].Waiting != 2 || undelivered[0].Error != "503" {
			t.Errorf("undelivered %+v: %v", undelivered, err)
		}
		bad.fails(nil)
		kill()
		bad.expect(t)
		defer w.start()()
		w.pass(nil, 0)
		bad.expect(t, "alarm", "recovered")
		if n := strings.Count(w.log.String(), "a channel cannot deliver"); n > 4 || !strings.Contains(w.log.String(), `hint="ask the desk"`) {
			t.Errorf("%d lines in the log:\n%s", n, w.log)
		}
	})
}

// A command that ends at once sends before it ends; while another process works on the book, it leaves that to it.
func TestOneShot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		w.start()
		w.hub.Passed(tell.Pass{Report: failing(2), At: time.Now()})
		w.hub.Close(t.Context())
		chat.expect(t, "alarm")
		kill := w.start()
		w.pass(broken(), 3)
		daemon := w.hub
		w.start() // beside it
		w.pass(nil, 0)
		chat.expect(t)
		w.hub.Close(t.Context())
		chat.expect(t)
		w.hub = daemon
		w.pass(nil, 0)
		chat.expect(t, "recovered")
		kill()
	})
}

func failing(times int) report.Certificate {
	r := report.New("mx", []string{"mx.example.org"})
	r.Keys = []report.Key{{Key: "ec256", NotBefore: time.Now(), NotAfter: time.Now().Add(80 * 24 * time.Hour)}}
	r.Stage, r.Error, r.Failures, r.Failed = report.Waiting, broken(), times, broken()
	return r
}

// full is a store on a full disk.
type full struct{ *disk.Store }

func (full) Replace(string, []byte) error { return syscall.ENOSPC }

// With a full disk, messages are sent, once, and the log says it in one line.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		store, err := disk.Open(w.book.Path())
		if err != nil {
			t.Fatal(err)
		}
		w.book = state.New(full{store})
		defer w.start()()
		for i := range 10 {
			w.pass(broken(), i+1)
		}
		chat.expect(t, "alarm")
		w.pass(nil, 0)
		chat.expect(t, "recovered")
		if n := strings.Count(w.log.String(), "could not be stored"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, w.log)
		}
	})
}

// A state that cannot be read or written costs a line in the log, and a message is sent all the same.
func TestDamagedState(t *testing.T) {
	for _, text := range []string{"{", `{"version": 1, "entries": [null, {}], "channels": {"chat": null, "x": {"queue": [{}]}}, "messages": -1e300}`,
		`{"version": 1, "channels": {"chat": {"more": -9, "tries": -9}}}`, `{"version": 99}`, ""} {
		synctest.Test(t, func(t *testing.T) {
			chat := &channel{name: "chat"}
			w := newWorld(t, sends(chat))
			store, err := disk.Open(w.book.Path())
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Replace("alarms.json", []byte(text)); err != nil {
				t.Fatal(err)
			}
			defer w.start()()
			w.pass(broken(), 2)
			chat.expect(t, "alarm")
			if alarms, _, err := Stored(w.book, nil); err != nil || len(alarms) != 1 || alarms[0].Title != "the renewal fails" {
				t.Errorf("stored %+v: %v", alarms, err)
			}
		})
	}
}

// What an earlier process has counted wrongly keeps no channel from failing and trying again.
func TestDamagedTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat", err: context.DeadlineExceeded}
		w := newWorld(t, sends(chat))
		if err := w.book.Remember(state.Alarms, &Book{Version: 1, Lanes: map[string]*lane{"chat": {Tries: -9, Queue: []notify.Message{{Text: "old"}}}}}); err != nil {
			t.Fatal(err)
		}
		defer w.start()()
		w.pass(broken(), 2)
		chat.fails(nil)
		elapse(time.Hour)
		if n := len(chat.messages()); n != 2 {
			t.Errorf("%d messages arrived", n)
		}
	})
}

// A panic keeps no lock: the next call works.
func TestPanicKeepsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		log := slog.New(slog.NewTextHandler(w.log, nil))
		teller := New(log, "mx.example.org", nil)
		teller.of = func(*wanted.Host) []wanted.Channel { return w.channels }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			teller.update(t.Context(), tell.World{}, w.channels) // without a book
		}()
		w.hub = tell.New(log, "1.0", teller)
		defer w.hub.Close(t.Context())
		w.hub.InForce(w.host, w.book)
		w.pass(broken(), 2)
		chat.expect(t, "alarm")
	})
}

// A dead man's switch that is down is not asked again whenever a pass ends.
func TestPingsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alive := &channel{name: "alive", err: errors.New("503")}
		w := newWorld(t, pings(alive))
		defer w.start()()
		for range 60 {
			w.pass(nil, 0)
		}
		if n := w.counted["alive failure"]; n > 5 {
			t.Errorf("%d pings in two minutes", n)
		}
		alive.fails(nil)
		elapse(10 * time.Minute)
		if want := []string{"well"}; !slices.Equal(alive.pings(), want) {
			t.Errorf("the switch heard %q", alive.pings())
		}
	})
}

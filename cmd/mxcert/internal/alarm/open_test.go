package alarm

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Who asks for the alarms of a World gets those that follow from it, although the teller learns of it at the same time; and the stored ones
// after a few seconds, if another process has the book.
func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		teller := New(slog.New(slog.DiscardHandler), "mx.example.org", func(string, string) {})
		teller.of = func(*wanted.Host) []wanted.Channel { return w.channels }
		world := tell.World{Host: w.host, Store: w.book, Loaded: time.Now(), Change: 1, Certificates: map[string]tell.Certificate{"mx": {Report: failing(2), At: time.Now()}}}
		found := make(chan int)
		ask := func() {
			alarms, _, err := teller.Open(t.Context(), world)
			if err != nil {
				t.Error(err)
			}
			found <- len(alarms)
		}
		go ask()
		synctest.Wait() // it waits now
		began := time.Now()
		teller.Listen(t.Context(), world)
		if n := <-found; n != 1 || time.Since(began) != 0 {
			t.Errorf("%d alarms after %s", n, time.Since(began))
		}
		go ask() // the same World: nothing to wait for
		if n := <-found; n != 1 || time.Since(began) != 0 {
			t.Errorf("%d alarms after %s", n, time.Since(began))
		}
		world.Change++
		world.Certificates = nil
		go ask()
		if n := <-found; n != 1 || time.Since(began) != openTime {
			t.Errorf("%d alarms after %s", n, time.Since(began))
		}
		world.Final = true
		teller.Listen(t.Context(), world)
		chat.expect(t, "alarm")
	})
}

package alarm

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/tell"
)

// A store that is away is told after a while; each value that is refused is a matter of its own.
func TestFleetMatters(t *testing.T) {
	t.Parallel()
	list := found(tell.Topic{Source: "fleet"}, []finding.Finding{
		finding.New("fleet-away", finding.Error, "the store cannot be asked: it is down"),
		finding.New("fleet-fault", finding.Error, "certificate/mx/ec256: forged"),
		finding.New("fleet-fault", finding.Error, "certificate/mx/rsa2048: forged"),
	})
	if len(list) != 3 || list[0].age != fleetPatience || list[1].age != 0 || list[0].Senders == "" || list[1].Senders == "" {
		t.Fatalf("%+v", list)
	}
	if list[1].key() == list[2].key() || list[1].Subject != "certificate/mx/ec256" {
		t.Errorf("two values are one matter: %q, %q", list[1].key(), list[2].key())
	}
}

// A store that is away for a week, with a daemon that is started anew each day, is one alarm after a quarter of an hour, one reminder a day, and one
// end. A shorter time is none.
func TestAWeekWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		kill := w.start()
		store := func(away bool) {
			list := []finding.Finding{}
			if away {
				list = append(list, finding.New("fleet-away", finding.Error, "the store cannot be asked: it is down").Next("start it"))
			}
			w.hub.Found(tell.Topic{Source: "fleet"}, list)
		}
		store(true)
		elapse(fleetPatience - time.Minute)
		store(false)
		elapse(time.Hour)
		store(true)
		elapse(fleetPatience - time.Minute)
		chat.expect(t)
		elapse(2 * time.Minute)
		chat.expect(t, "alarm")
		var reminders []string
		for range 7 {
			elapse(12 * time.Hour)
			kill()
			elapse(time.Minute)
			kill = w.start()
			store(true)
			elapse(12*time.Hour - time.Minute)
			reminders = append(reminders, chat.events()...)
		}
		if len(reminders) < 6 || len(reminders) > 7 || slices.ContainsFunc(reminders, func(event string) bool { return event != "reminder" }) {
			t.Errorf("in the week: %q", reminders)
		}
		store(false)
		elapse(time.Hour)
		chat.expect(t, "recovered")
		kill()
	})
}

package alarm

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/hooks/notify"
)

// situation is what is really so, and what is known of it.
type situation struct {
	bad   map[string]bool // by certificate: not in service
	known map[string]bool
}

func (s situation) view(certificates []string) View {
	v := View{exists: map[string]bool{}, passes: map[string]bool{}}
	for _, name := range certificates {
		v.exists[name] = true
		if v.passes[name] = s.known[name]; s.known[name] && s.bad[name] {
			v.Matters = append(v.Matters, Matter{ID: "not-in-service", Source: sourcePass, Certificate: name, Cause: "cause of " + name, Severity: finding.Error, What: "it is broken"})
		}
	}
	return v
}

// again is the book after its process was killed: what was stored.
func (b *Book) again(t *testing.T) *Book {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var read Book
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read.sound()
}

// person is what somebody knows who has read all messages.
type person struct {
	t         *testing.T
	wrong     map[string]bool
	mentioned map[string]time.Time
	days      map[int]int // messages about changes by day
	reminders int
}

func (p *person) read(m notify.Message, start time.Time) {
	p.t.Helper()
	for _, matter := range m.Matters {
		for _, name := range matter.Certificates {
			switch m.Event {
			case notify.Alarm:
				if p.wrong[name] {
					p.t.Errorf("%s: alarm about %s, which was told", m.At, name)
				}
				p.wrong[name] = true
			case notify.Recovered:
				if !p.wrong[name] {
					p.t.Errorf("%s: %s recovered, and no alarm was told", m.At, name)
				}
				p.wrong[name] = false
			case notify.Reminder:
				if !p.wrong[name] {
					p.t.Errorf("%s: reminder about %s, which is not wrong", m.At, name)
				}
			}
			p.mentioned[name] = m.At
		}
	}
	if m.Event == notify.Reminder {
		p.reminders++
	} else {
		p.days[int(m.At.Sub(start).Hours())/24]++
	}
}

// Weeks of random troubles, kills and unknown certificates: a person learns each change once, is reminded in time, and is not flooded.
func TestWeeks(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { weeks(t, seed) })
	}
}

func weeks(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	certificates := []string{"a", "b", "c", "d", "e"}
	restless := random.Float64() * random.Float64() * 0.3 // how likely a change is in five minutes
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	s := situation{bad: map[string]bool{}, known: map[string]bool{}}
	reader := &person{t: t, wrong: map[string]bool{}, mentioned: map[string]time.Time{}, days: map[int]int{}}
	to := []recipient{{"chat", 24 * time.Hour}, {"mail", 0}}
	b, now := newBook(), start
	step := func() {
		b.update(s.view(certificates), to, "mx.example", now)
		l := b.Lanes["chat"]
		for _, m := range l.Queue {
			reader.read(m, start)
		}
		l.Queue, b.Lanes["mail"].Queue = nil, nil
		if random.IntN(50) == 0 {
			b = b.again(t)
			clear(s.known) // until their first pass
		}
	}
	for range 4 * 7 * 24 * 12 { // four weeks
		now = now.Add(5 * time.Minute)
		for _, name := range certificates {
			if random.Float64() < restless {
				s.bad[name] = random.IntN(2) == 0
			}
			if random.IntN(3) == 0 {
				s.known[name] = true
			}
		}
		step()
		for name, wrong := range reader.wrong {
			if since := now.Sub(reader.mentioned[name]); wrong && s.bad[name] && s.known[name] && since > 25*time.Hour {
				t.Fatalf("%s: nothing was told about %s for %s", now, name, since)
			}
		}
	}
	for day, n := range reader.days {
		if n > 54 {
			t.Errorf("%d messages on day %d", n, day)
		}
	}
	for _, name := range certificates {
		s.known[name] = true
	}
	for range 2 * 24 * 12 { // calm: then everybody knows how it is
		now = now.Add(5 * time.Minute)
		step()
		for _, name := range certificates {
			s.known[name] = true
		}
	}
	for _, name := range certificates {
		if reader.wrong[name] != s.bad[name] {
			t.Errorf("at the end a person believes that %s is wrong: %v, and it is: %v", name, reader.wrong[name], s.bad[name])
		}
	}
}

// one is a view of one certificate.
func one(bad bool) View {
	return situation{bad: map[string]bool{"mx": bad}, known: map[string]bool{"mx": true}}.view([]string{"mx"})
}

func chat() []recipient { return []recipient{{"chat", 24 * time.Hour}} }

// taken returns the events of the messages that wait for the channel chat, and takes them.
func (b *Book) taken() (events []string) {
	for _, m := range b.Lanes["chat"].Queue {
		events = append(events, string(m.Event))
	}
	b.Lanes["chat"].Queue = nil
	return events
}

func expect(t *testing.T, b *Book, want ...string) {
	t.Helper()
	if got := b.taken(); !slices.Equal(got, want) {
		t.Fatalf("told %v, want %v", got, want)
	}
}

// A failure that comes and goes makes few messages.
func TestFlapping(t *testing.T) {
	b, now, n := newBook(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), 0
	for i := range 7 * 24 * 60 { // a week, each minute
		b.update(one(i%2 == 0), chat(), "h", now.Add(time.Duration(i)*time.Minute))
		n += len(slices.DeleteFunc(b.taken(), func(e string) bool { return e == "reminder" }))
	}
	if n < 2 || n > 2*8 {
		t.Errorf("%d messages in a week", n)
	}
}

func TestReminder(t *testing.T) {
	b, now := newBook(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	again := b.update(one(true), append(chat(), recipient{"never", 0}), "h", now)
	expect(t, b, "alarm")
	if want := now.Add(24 * time.Hour); !again.Equal(want) {
		t.Errorf("again at %s, want %s", again, want)
	}
	for hour := 1; hour <= 72; hour++ {
		b.update(one(true), append(chat(), recipient{"never", 0}), "h", now.Add(time.Duration(hour)*time.Hour))
		if want := hour%24 == 0; want != (len(b.taken()) == 1) {
			t.Errorf("hour %d: reminder %v", hour, !want)
		}
	}
	if n := len(b.Lanes["never"].Queue); n != 1 {
		t.Errorf("%d messages without repeat", n)
	}
	b.update(one(false), chat(), "h", now.Add(80*time.Hour))
	expect(t, b, "recovered")
	b.update(one(true), chat(), "h", now.Add(-80*time.Hour)) // the clock is set back
	expect(t, b, "alarm")
	b.update(one(true), chat(), "h", now.Add(-57*time.Hour))
	expect(t, b)
	b.update(one(true), chat(), "h", now.Add(-56*time.Hour))
	expect(t, b, "reminder")
}

// What nobody knows is not well, and what is not configured any more is forgotten quietly.
func TestUnknown(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := newBook()
	b.update(one(true), chat(), "h", now)
	expect(t, b, "alarm")
	b = b.again(t)
	unknown := situation{}.view([]string{"mx"})
	b.update(unknown, chat(), "h", now.Add(30*time.Hour))
	expect(t, b) // not even a reminder
	b.update(one(true), chat(), "h", now.Add(31*time.Hour))
	expect(t, b, "reminder")
	b.update(situation{}.view([]string{"other"}), chat(), "h", now.Add(32*time.Hour))
	expect(t, b)
	if len(b.Entries)+len(b.Causes) != 0 {
		t.Errorf("what is gone is remembered: %+v", b.Entries)
	}
	b.update(one(true), chat(), "h", now)
	expect(t, b, "alarm")
	b.update(unknown, chat(), "h", now.Add(stale+13*time.Hour))
	expect(t, b)
	if len(b.Entries) != 0 {
		t.Error("what nobody knows about for a week is remembered")
	}
}

// A thousand certificates with one cause make one message, and one when it is over.
func TestThousand(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := newBook()
	view := func(bad func(i int) bool) View {
		v := View{exists: map[string]bool{}, passes: map[string]bool{}}
		for i := range 1000 {
			name := fmt.Sprintf("mx%d", i)
			v.exists[name], v.passes[name] = true, true
			if bad(i) {
				v.Matters = append(v.Matters, Matter{ID: "renewal-failed", Source: sourcePass, Certificate: name, Cause: "ca-unreachable", Severity: finding.Error, What: "the CA does not answer"})
			}
		}
		return v
	}
	var sent []notify.Message
	for minute := range 200 { // they fail one after another
		b.update(view(func(i int) bool { return i <= minute*10 }), chat(), "h", now.Add(time.Duration(minute)*time.Minute))
		sent = append(sent, b.Lanes["chat"].Queue...)
		b.Lanes["chat"].Queue = nil
	}
	names := map[string]bool{}
	for _, m := range sent {
		if m.Event != notify.Alarm || len(m.Matters) != 1 || len(m.Text) > 4000 {
			t.Errorf("%s: %d matters, %d bytes", m.Event, len(m.Matters), len(m.Text))
		}
		for _, name := range m.Matters[0].Certificates {
			names[name] = true
		}
	}
	if len(sent) > 5 {
		t.Errorf("%d messages about one cause", len(sent))
	}
	if last := sent[len(sent)-1]; !strings.Contains(last.Subject, " more: the renewal fails") {
		t.Errorf("the last subject is %q", last.Subject)
	}
	now = now.Add(10 * time.Hour)
	sent = nil
	for minute := range 100 {
		b.update(view(func(i int) bool { return i > minute*11 }), chat(), "h", now.Add(time.Duration(minute)*time.Minute))
		sent = append(sent, b.Lanes["chat"].Queue...)
		b.Lanes["chat"].Queue = nil
	}
	if len(sent) > 3 || !strings.Contains(sent[len(sent)-1].Text, "the renewal works again") {
		t.Errorf("%d messages about the end", len(sent))
	}
	if text, _ := json.Marshal(b); strings.Count(string(text), ",")+strings.Count(string(text), "{") > 40_000 {
		t.Error("the state would not read it back")
	}
}

// A channel that never delivers keeps the newest messages, and says how many it has lost.
func TestFullQueue(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := newBook()
	for day := range 60 {
		b.update(one(day%2 == 0), chat(), "h", now.Add(time.Duration(day)*48*time.Hour))
	}
	l := b.Lanes["chat"]
	if len(l.Queue) != mostQueued || l.More != 60-mostQueued {
		t.Fatalf("%d wait, %d are lost", len(l.Queue), l.More)
	}
	m := dropped(l.Queue[0], l.More)
	if m.More != l.More || !strings.Contains(m.Subject, "(and 36 more)") || !strings.Contains(m.Text, "And 36 more: ") {
		t.Errorf("%q\n%s", m.Subject, m.Text)
	}
}

// A new channel learns what is wrong already; one that is removed is forgotten.
func TestNewChannel(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	b := newBook()
	b.update(one(true), []recipient{{"old", time.Hour}}, "h", now)
	b.update(one(true), append(chat(), recipient{"old", time.Hour}), "h", now.Add(time.Minute))
	expect(t, b, "alarm")
	if n := len(b.Lanes["old"].Queue); n != 1 {
		t.Errorf("the old one has %d messages", n)
	}
	b.update(one(true), chat(), "h", now.Add(2*time.Minute))
	if len(b.Lanes) != 1 {
		t.Error("a channel that was removed is remembered")
	}
}

// However many channels fail for however long, the state reads the book back.
func TestFits(t *testing.T) {
	for what, m := range map[string]notify.Message{"many matters": {}, "long texts": {Text: strings.Repeat("x", 8<<10)}} {
		t.Run(what, func(t *testing.T) { fits(t, m) })
	}
}

func fits(t *testing.T, m notify.Message) {
	b := newBook()
	for range mostParts {
		m.Matters = append(m.Matters, notify.Matter{Certificates: make([]string, mostListed)})
	}
	for i := range 20 {
		name := fmt.Sprint(i)
		b.Lanes[name] = &lane{}
		for range mostQueued {
			b.queue(m, name)
		}
	}
	text := string(b.fit())
	if n := strings.Count(text, ","); n > mostMarks || len(text) > 1<<20 {
		t.Errorf("%d commas in %d bytes", n, len(text))
	}
	for name, l := range b.Lanes {
		if len(l.Queue) == 0 || len(l.Queue)+l.More != mostQueued {
			t.Errorf("channel %s: %d wait, %d are lost", name, len(l.Queue), l.More)
		}
	}
}

package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

const (
	// lockAgain is when a process asks again for the book that another process has.
	lockAgain = 15 * time.Second
	// lockTime limits how long a process that ends waits for it.
	lockTime = 10 * time.Second
	// saveAgain is when a book is stored again after that has failed.
	saveAgain = time.Minute
)

// Teller sends people messages about what passes and looks find. It is a listener of a hub.
type Teller struct {
	log   *slog.Logger
	host  string
	count func(channel, result string)
	of    func(*wanted.Host) []wanted.Channel

	seen   sync.Mutex
	failed map[string]int // passes in a row that have failed since the start, by certificate
	noted  int            // the change of the World that the stored book knows
	more   chan struct{}  // closed when noted grows

	mu      sync.Mutex
	book    *Book // nil until it is read
	store   *state.Book
	release func() // of the lock on the book
	stored  []byte // the book as it is stored; nil if that is not known
	unsaved bool   // it could not be stored last
	loaded  time.Time
	senders map[string]*sender
	pingers map[string]*pinger
	working sync.WaitGroup // what sends now
}

// New returns a teller. host is the full name of this host; if it has none, its short name is used. count counts messages: the result is success, failure (of a try), or dropped.
func New(log *slog.Logger, host string, count func(channel, result string)) *Teller {
	if host == "" {
		host, _ = os.Hostname() // without any name, messages say so
	}
	return &Teller{log: log, host: host, count: count, of: (*wanted.Host).Channels, failed: map[string]int{}, more: make(chan struct{}), senders: map[string]*sender{}, pingers: map[string]*pinger{}}
}

// Name is for the log.
func (*Teller) Name() string { return "notifications" }

// On reports whether there are channels.
func (t *Teller) On(host *wanted.Host) bool { return len(t.of(host)) > 0 }

// Witness counts the passes that have failed. Two that follow each other closely are one change of the World.
func (t *Teller) Witness(p tell.Pass) {
	t.seen.Lock()
	defer t.seen.Unlock()
	switch e := p.Report.Error; {
	case inconclusive(p.Report), e != nil && e.Kind == "backoff":
	case e == nil:
		delete(t.failed, p.Report.Name)
	default:
		t.failed[p.Report.Name] = min(t.failed[p.Report.Name]+1, 100)
	}
}

// look returns what is known.
func (t *Teller) look(w tell.World, now time.Time) View {
	accounts, err := w.Store.Accounts()
	v := Look(w, accounts, err, now)
	t.seen.Lock()
	defer t.seen.Unlock()
	v.count(t.failed)
	return v
}

// Listen notes what is known, and starts to send what follows. It does not wait until that is sent, unless the process ends.
func (t *Teller) Listen(ctx context.Context, w tell.World) (again time.Time) {
	channels := t.of(w.Host)
	if !t.open(ctx, w) {
		return time.Now().Add(lockAgain)
	}
	again = t.update(ctx, w, channels)
	if w.Final || len(channels) == 0 {
		t.end(ctx)
		return time.Time{}
	}
	return again
}

// update notes what is known, and starts to send what follows. A panic must not keep the lock: then no channel would ever send again.
func (t *Teller) update(ctx context.Context, w tell.World, channels []wanted.Channel) (again time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	var to []recipient
	for _, c := range channels {
		if c.Sender != nil {
			to = append(to, recipient{c.Name, c.Repeat})
		}
	}
	if len(channels) == 0 { // the section was removed
		t.book = newBook()
	} else {
		again = t.book.update(t.look(w, now), to, t.host, now)
		for _, name := range t.book.lost {
			t.counts(name, "dropped")
		}
	}
	t.save(w.Final)
	t.note(w.Change)
	t.send(ctx, channels, !w.Loaded.Equal(t.loaded))
	again = sooner(again, t.ping(ctx, channels, w, now))
	if t.loaded = w.Loaded; t.unsaved {
		again = sooner(again, now.Add(saveAgain))
	}
	return again
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// open takes the book in a store. It reports false while another process works on it.
func (t *Teller) open(ctx context.Context, w tell.World) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.book != nil && t.store.Path() == w.Store.Path() {
		t.store = w.Store
		return true
	}
	t.close()
	patience := time.Duration(0)
	if w.Final {
		patience = lockTime
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, err := w.Store.Hold(limited, state.Alarms)
	switch {
	case errors.Is(err, state.ErrLocked):
		t.log.Debug("another process sends notifications")
		return false
	case err != nil: // a lock is good against sending twice; a message is more important
		t.log.Warn("notifications cannot be locked", "error", err)
		release = func() {}
	}
	t.store, t.release = w.Store, release
	t.read()
	return true
}

// read reads the book. What cannot be read costs at most a repeated message.
func (t *Teller) read() {
	t.book, t.stored, t.unsaved = newBook(), nil, false
	var b Book
	err := t.store.Remembered(state.Alarms, &b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		aside := ""
		if !errors.Is(err, fs.ErrPermission) {
			aside, _ = t.store.SetAside(state.Alarms) // if that fails, it is overwritten
		}
		t.log.Warn("what people were told is not known, so a message may come twice", "error", err, "kept_as", aside)
	default:
		t.book = b.sound()
		t.stored = encode(t.book)
	}
}

// sound returns a book that was read as update expects it.
func (b *Book) sound() *Book {
	clean := newBook()
	for _, e := range b.Entries {
		if e != nil && len(clean.Entries) < mostEntries {
			clean.Entries = append(clean.Entries, e)
		}
	}
	for group, c := range b.Causes {
		clean.Causes[group] = cause{Last: c.Last, Times: max(0, min(c.Times, 100))}
	}
	for name, l := range b.Lanes {
		if l != nil {
			l.Queue = l.Queue[max(0, len(l.Queue)-mostQueued):]
			l.More, l.Tries = max(0, l.More), max(0, l.Tries)
			clean.Lanes[name] = l
		}
	}
	clean.Messages, clean.At = max(0, min(b.Messages, atOnce)), b.At
	return clean
}

// save stores the book if it has changed. If it cannot be stored, the messages are sent all the same.
func (t *Teller) save(always bool) {
	text := t.book.fit()
	if bytes.Equal(text, t.stored) && !(always && t.unsaved) {
		return
	}
	switch err := t.store.Remember(state.Alarms, t.book); {
	case err != nil && !t.unsaved:
		t.log.Warn("what people were told could not be stored, so a message may come twice", "error", err)
		fallthrough
	case err != nil:
		t.unsaved, t.stored = true, nil
	default:
		t.unsaved, t.stored = false, text
	}
}

// mostMarks is how many of the characters that precede values the book may have, and mostBytes how many bytes. The state reads no record with
// more than 50,000, or with more than 1 MiB.
const mostMarks, mostBytes = 45_000, 900 << 10

// fit drops the oldest messages until the state would read the book back, and returns its text.
func (b *Book) fit() []byte {
	text := encode(b)
	for marks, size := marksOf(text)-mostMarks, len(text)-mostBytes; marks > 0 || size > 0; {
		var longest *lane
		for _, l := range b.Lanes {
			if len(l.Queue) > 1 && (longest == nil || len(l.Queue) > len(longest.Queue)) {
				longest = l
			}
		}
		if longest == nil {
			return encode(b)
		}
		dropped := encode(longest.Queue[0])
		marks, size = marks-marksOf(dropped), size-len(dropped)
		longest.Queue = longest.Queue[1:]
		if longest.More++; marks <= 0 && size <= 0 {
			text = encode(b)
			marks, size = marksOf(text)-mostMarks, len(text)-mostBytes
		}
	}
	return text
}

// marksOf counts the characters of which the state reads a limited number.
func marksOf(text []byte) int {
	return bytes.Count(text, []byte{'{'}) + bytes.Count(text, []byte{'['}) + bytes.Count(text, []byte{','})
}

// encode encodes a book, or a part of it, as the state writes it.
func encode(v any) []byte {
	text, _ := json.MarshalIndent(v, "", "  ") // of strings, numbers and times
	return text
}

// end waits until nothing is being sent any more, or ctx ends.
func (t *Teller) end(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		t.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close()
}

// close gives the book back.
func (t *Teller) close() {
	for _, s := range t.senders {
		s.stop()
	}
	for _, p := range t.pingers {
		p.stop()
	}
	clear(t.senders)
	clear(t.pingers)
	if t.book = nil; t.release != nil {
		t.release()
		t.release = nil
	}
}

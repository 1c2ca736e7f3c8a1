package journal

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// mostLines limits the lines of text that wait until they can be written.
const mostLines = 1000

// Patient is a writer that does not wait for long, for lines that go to the journal as text: that stream, too, is full at some time if
// journald hangs. It writes in order. Lines that find no place are counted, and the next line that does says how many there were.
type Patient struct {
	out      io.Writer
	patience time.Duration

	mu      sync.Mutex
	waiting []line
	writes  bool // a goroutine writes what waits
	hangs   bool // a line has taken too long: others do not wait
	lost    int
}

type line struct {
	text []byte
	done chan struct{}
}

// NewPatient returns a writer that writes to another one.
func NewPatient(out io.Writer) *Patient { return &Patient{out: out, patience: patience} }

// Write takes a line. It never fails: nobody could be told.
func (p *Patient) Write(text []byte) (int, error) {
	p.mu.Lock()
	if len(p.waiting) >= mostLines {
		p.lost++
		p.mu.Unlock()
		return len(text), nil
	}
	l := line{text: append([]byte(nil), text...), done: make(chan struct{})}
	p.waiting = append(p.waiting, l)
	if !p.writes {
		p.writes = true
		go p.write()
	}
	hangs := p.hangs
	p.mu.Unlock()
	if hangs {
		return len(text), nil
	}
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
		p.mu.Lock()
		p.hangs = p.writes
		p.mu.Unlock()
	}
	return len(text), nil
}

// write writes what waits.
func (p *Patient) write() {
	for {
		p.mu.Lock()
		if len(p.waiting) == 0 {
			p.writes, p.hangs, p.waiting = false, false, nil
			p.mu.Unlock()
			return
		}
		next, lost := p.waiting[0], p.lost
		p.waiting, p.lost = p.waiting[1:], 0
		p.mu.Unlock()
		if lost > 0 {
			_, _ = fmt.Fprintf(p.out, "<4>%d lines of the log are lost, because the journal did not read\n", lost)
		}
		_, _ = p.out.Write(next.text)
		close(next.done)
	}
}

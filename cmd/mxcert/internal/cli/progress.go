package cli

import (
	"fmt"
	"sync"
	"time"

	"mxcert/acme"

	"mxcert/cmd/mxcert/internal/report"
)

// narrator shows the progress of passes on stderr: one line for each change of state. On a terminal a last line shows what mxcert is
// waiting for. A nil narrator prints nothing.
type narrator struct {
	app      *app
	animated bool
	diary    *diary // gets the progress instead, if standard error is the journal; nil otherwise
	start    time.Time

	mu   sync.Mutex
	last time.Time
	now  string // what the animated line shows
	stop chan struct{}
}

// narrate starts to show the progress of a command. The caller calls end before it prints the result.
func (a *app) narrate() *narrator {
	if a.quiet || a.progress == "none" {
		return nil
	}
	n := &narrator{app: a, start: time.Now(), last: time.Now(), stop: make(chan struct{}), diary: a.diary()}
	n.animated = a.progress == "auto" && a.stderr.isTerminal() && !dumb()
	if n.animated {
		go n.animate()
	}
	return n
}

func (n *narrator) end() {
	if n == nil || !n.animated {
		return
	}
	close(n.stop)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clear()
}

// speak returns the function that shows the progress of one certificate.
func (n *narrator) speak(certificate string) acme.Progress {
	if n == nil {
		return func(string, string) {}
	}
	return func(stage, message string) { n.line(certificate, stage, message) }
}

// speakOf returns the function that shows the progress of looks at the domains and hosts of anybody. There may be hundreds of addresses, so
// on a terminal only the last line shows it, and the answer comes first.
func (n *narrator) speakOf() func(name, stage, message string) {
	if n == nil {
		return nil
	}
	return func(name, stage, message string) {
		if !n.animated {
			n.line(foreign(name), stage, message)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.last, n.now = time.Now(), report.OneLine(foreign(name)+"  "+message)
	}
}

func (n *narrator) line(certificate, stage, message string) {
	if n.diary != nil {
		n.diary.progress(certificate, stage, message)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.clear()
	mark, colour, priority := "·", faint, asInfo
	switch stage {
	case "warning", "left-out", "account-changed", "txt-remain":
		mark, colour, priority = "!", yellow, asWarning
	case "failed":
		mark, colour, priority = "✗", red, asError
	case "done", "issued", "verify":
		mark, colour = "✓", green
	}
	out := n.app.stderr
	fmt.Fprint(out, n.app.priority(priority))
	n.app.paint(out, mark, colour)
	fmt.Fprintf(out, " %s  %-12s ", certificate, report.OneLine(stage))
	n.app.paint(out, fmt.Sprintf("%7s", seconds(now.Sub(n.last))), faint)
	fmt.Fprintf(out, "  %s\n", report.OneLine(message))
	n.last, n.now = now, certificate+"  "+waitingFor(stage)
}

// waitingFor returns what follows a stage, for the line that shows what mxcert is waiting for.
func waitingFor(stage string) string {
	switch stage {
	case "dns":
		return "waits for the name servers"
	case "propagation", "account", "due", "order", "validation":
		return "waits for the CA"
	case "reload", "deploy", "revert", "wait":
		return "waits for the mail server"
	}
	return "at work"
}

func (n *narrator) animate() {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	if n.app.stderr.ascii {
		frames = []rune(`-\|/`)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
			n.mu.Lock()
			n.clear()
			fmt.Fprintf(n.app.stderr, "%c %s  %s", frames[i%len(frames)], n.now, seconds(time.Since(n.last)))
			n.mu.Unlock()
		}
	}
}

// clear empties the animated line. The caller holds the lock.
func (n *narrator) clear() {
	if n.animated {
		n.app.stderr.control("\r\x1b[K")
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

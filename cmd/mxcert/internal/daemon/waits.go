package daemon

import (
	"cmp"
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// slowPass is how long a pass has to run until `systemctl status` says what it is doing.
const slowPass = 20 * time.Second

// waitOf says what a certificate waits for after its last pass; "" if it waits only for its renewal.
func waitOf(r report.Certificate) string {
	switch {
	case r.Limited && r.NextTry != nil:
		return "waits for the limits of the CA until " + report.Minute(*r.NextTry)
	case r.Elsewhere && r.Error.Kind == pass.KindFleetBusy:
		return "waits for another host of the fleet, which orders"
	case r.Elsewhere:
		return "waits for the store of the fleet"
	case r.TLSA != nil && r.TLSA.WaitingFor != "":
		text := "waits: " + r.TLSA.WaitingFor
		if r.TLSA.Until != nil {
			text += ", until " + report.Minute(*r.TLSA.Until)
		}
		return text
	case len(r.Awaited) > 0:
		first := r.Awaited[0]
		text := fmt.Sprintf("awaits a second look for %s until %s", first.Name, report.Minute(first.Until))
		if n := len(r.Awaited) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more)", n)
		}
		return text
	}
	return ""
}

// waitText says what the first certificate that waits is waiting for, and how many others do. The caller holds d.mu.
func (d *Daemon) waitText() string {
	var first, what string
	more := 0
	for _, want := range d.workload.runner.Host.Certificates {
		switch c := d.conditions[want.Name]; {
		case c.waits == "":
		case first == "":
			first, what = want.Name, c.waits
		default:
			more++
		}
	}
	if first == "" {
		return ""
	}
	return finding.Quote(fmt.Sprintf("; %s %s", first, what), mostStatus) + others(more, "waits", "wait")
}

func others(n int, one, several string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "; 1 more " + one
	}
	return fmt.Sprintf("; %d more %s", n, several)
}

// doing is what a running pass does now.
type doing struct {
	words string
	since time.Time
	timer *time.Timer // shows it when the pass has become slow
	shown bool        // systemd was told
}

// step notes what a pass does now, in the words of its progress. It only starts to tell systemd: the pass must not wait for that.
func (d *Daemon) step(o *order, stage string) {
	words := wordsOf(stage)
	d.mu.Lock()
	defer d.mu.Unlock()
	if words == "" || words == o.doing.words || o.doing.timer == nil {
		return
	}
	o.doing.words, o.doing.since = words, time.Now()
	if o.doing.shown {
		time.AfterFunc(0, func() { d.showCondition(false) })
	}
}

// begins starts to watch whether a pass becomes slow. The caller holds d.mu.
func (d *Daemon) begins(o *order) {
	o.doing = doing{words: "is at work", since: time.Now()}
	o.doing.timer = time.AfterFunc(slowPass, func() {
		d.mu.Lock()
		running := o.doing.timer != nil
		o.doing.shown = running
		d.mu.Unlock()
		if running {
			d.showCondition(false)
		}
	})
}

// ends ends that.
func (d *Daemon) ends(o *order) {
	d.mu.Lock()
	if o.doing.timer != nil {
		o.doing.timer.Stop()
	}
	shown := o.doing.shown
	o.doing = doing{}
	d.mu.Unlock()
	if shown {
		d.showCondition(false)
	}
}

// slowText says what the slow pass that has started first is doing, and how many others there are. The caller holds d.mu.
func (d *Daemon) slowText() string {
	var first *order
	slow := 0
	for o, began := range d.progress {
		if !o.doing.shown {
			continue
		}
		slow++
		if first == nil || cmp.Or(began.Compare(d.progress[first]), cmp.Compare(o.want.Name, first.want.Name)) < 0 {
			first = o
		}
	}
	if first == nil {
		return ""
	}
	return fmt.Sprintf("; %s %s since %s", first.want.Name, first.doing.words, report.Minute(first.doing.since)) + others(slow-1, "is at work", "are at work")
}

// wordsOf says what follows a stage of the progress; "" for stages after which the same goes on.
func wordsOf(stage string) string {
	switch stage {
	case "dns", "propagation":
		return "waits for its records in DNS"
	case "due", "order", "validation", "certificate", "account":
		return "waits for the CA"
	case "issued", "deploy", "reload", "wait", "revert":
		return "waits for the mail server"
	case "lock":
		return "waits for another mxcert"
	}
	return ""
}

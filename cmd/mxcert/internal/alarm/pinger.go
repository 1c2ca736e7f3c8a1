package alarm

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/journal"
)

const (
	// pingEvery is how often a dead man's switch hears something at least. A round of passes takes about as long.
	pingEvery = time.Hour
	// pingEnough is how old the last ping must be, so that another one is made although nothing has changed.
	pingEnough = 50 * time.Minute
	// overdue is how old the last pass over a certificate can be: the daemon makes one each hour, and one may take half an hour.
	overdue = 3 * time.Hour
	// mostPingPause limits the pause after a ping that has failed.
	mostPingPause = 10 * time.Minute
)

// pinger tells a dead man's switch how it is. It has a goroutine while it does so.
type pinger struct {
	teller  *Teller
	channel wanted.Channel
	round   round // to be told
	last    round // what was told
	at      time.Time
	tries   int       // that failed in a row
	rest    time.Time // until when the other side wants to be left alone
	waits   bool
	busy    bool
	ended   bool
	timer   *time.Timer
}

// round is how everything is.
type round struct {
	well bool
	text string
}

// ping tells the dead man's switches how it is, if they have to be told. It returns when that has to be done again. The caller holds t.mu.
func (t *Teller) ping(ctx context.Context, channels []wanted.Channel, w tell.World, now time.Time) (again time.Time) {
	configured := map[string]bool{}
	r, known := t.round(w, now)
	for _, c := range channels {
		if c.Pinger == nil {
			continue
		}
		configured[c.Name] = true
		p := t.pingers[c.Name]
		if p == nil {
			p = &pinger{teller: t}
			t.pingers[c.Name] = p
		}
		if p.channel = c; !known {
			continue
		}
		if p.at.IsZero() || p.at.After(now) || p.last.well != r.well || now.Sub(p.at) >= pingEnough || w.Final && now.Sub(p.at) > time.Minute {
			news := p.timer == nil || p.round.well != r.well || w.Final // else the timer tries again: a pass that ends is no reason to ask more often
			if p.round = r; news {
				p.waits = true
				p.start(ctx)
			}
		}
		again = sooner(again, now.Add(pingEvery))
	}
	for name, p := range t.pingers {
		if !configured[name] {
			p.stop()
			delete(t.pingers, name)
		}
	}
	return again
}

// round sums up how everything is. It is not known before each certificate had a pass.
func (t *Teller) round(w tell.World, now time.Time) (r round, known bool) {
	if list := t.book.wrong(); len(list) > 0 {
		text := list[0].headline()
		if n := len(list) - 1; n > 0 {
			text += fmt.Sprintf("; and %d more", n)
		}
		return round{text: text + "\n" + list[0].What}, true
	}
	for _, want := range w.Host.Certificates {
		c, ok := w.Certificates[want.Name]
		if !ok {
			return round{}, false
		}
		if now.Sub(c.At) > overdue && !w.Final {
			return round{text: fmt.Sprintf("mxcert has not looked at %s since %s", want.Name, report.Minute(c.At))}, true
		}
	}
	n := len(w.Host.Certificates)
	return round{well: true, text: fmt.Sprintf("%d %s, all is well", n, report.Plural(n, "certificate"))}, true
}

// headline says what an entry is about.
func (e *entry) headline() string {
	return strings.TrimPrefix(cmp.Or(e.Certificate, "")+": "+title(e.Matter, false), ": ")
}

// stop ends the pinger after the ping that it makes now. The caller holds the teller's mu.
func (p *pinger) stop() {
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// start makes a ping, if one waits. The caller holds the teller's mu.
func (p *pinger) start(ctx context.Context) {
	if p.busy || p.ended || !p.waits || ctx.Err() != nil || p.timer != nil && time.Until(p.rest) > 0 {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.busy, p.waits = true, false
	channel, r := p.channel, p.round
	p.teller.working.Go(func() {
		err := attempt(ctx, func(ctx context.Context) error { return channel.Pinger.Ping(ctx, r.well, r.text) })
		p.teller.mu.Lock()
		defer p.teller.mu.Unlock()
		p.busy = false
		switch {
		case err == nil:
			p.pinged(r)
		case ctx.Err() == nil && !p.ended:
			p.failed(ctx, err)
		}
		p.start(ctx) // something newer may wait
	})
}

// pinged notes a success.
func (p *pinger) pinged(r round) {
	if p.tries > 0 {
		p.teller.log.Info("a dead man's switch hears mxcert again", "channel", p.channel.Name)
	}
	p.last, p.at, p.tries = r, time.Now(), 0
	p.teller.counts(p.channel.Name, "success")
}

// failed notes a failure, and tries again soon.
func (p *pinger) failed(ctx context.Context, err error) {
	if p.tries == 0 {
		p.teller.log.Warn("a dead man's switch does not hear mxcert", "channel", p.channel.Name, "error", finding.Quote(err.Error(), finding.MostQuoted), "hint", hintOf(err), journal.NotTold.Attr())
	}
	rest := min(leftAlone(err), pingEvery)
	pause := max(min(mostPingPause, firstPause<<min(p.tries, 10)), rest)
	p.rest = time.Now().Add(rest)
	p.tries++
	p.teller.counts(p.channel.Name, "failure")
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		p.teller.mu.Lock()
		defer p.teller.mu.Unlock()
		if p.timer == timer { // otherwise a ping was made in the same moment for another reason
			p.timer, p.waits = nil, true
			p.start(ctx)
		}
	})
	p.timer = timer
}

package pass

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// recordFailure records the failure and when the daemon may try again. Each failure in a row makes the delay longer, up to a tenth at random
// so that hosts do not all come back at the same moment. It ends before a part of what is left of the certificate in service. If the CA asks
// for a pause, the delay is at least that long.
func (p *pass) recordFailure(err error) {
	record, count := &p.have.Record, 1
	f := record.Failure
	same := f != nil && f.Fingerprint == p.want.Fingerprint()
	if same {
		count = f.Count + 1
	}
	r, now, charged := report.NewError(err), time.Now(), chargedToCA(err)
	notBefore := now.Add(schedule.Within(schedule.Backoff(count), now, p.endOfLife()))
	if same && p.besideTheDaemon(f, charged) {
		count, notBefore = f.Count, f.NotBefore
	}
	if w, ok := errors.AsType[interface {
		error
		Wait() time.Duration
	}](err); ok && w.Wait() > 0 {
		notBefore = latest(notBefore, now.Add(schedule.Spread(w.Wait())))
	}
	if r.Kind == kindDrift {
		notBefore = p.heldUntil
	}
	if f != nil && !stale(f) && f.ChargedToCA && now.Before(f.NotBefore) {
		// A failure of another kind must not shorten the pause that the CA asked for.
		charged, notBefore = true, latest(notBefore, f.NotBefore)
	}
	record.Failure = &state.Failure{Stage: r.Stage, Kind: r.Kind, Message: r.Message, Hint: r.Hint, At: now.UTC(), Count: count,
		NotBefore: notBefore.UTC().Truncate(time.Second), ChargedToCA: charged, Fingerprint: p.want.Fingerprint()}
	record.Log(state.Event{At: now, Event: "failed", Message: fmt.Sprintf("%s: %s", r.Stage, r.Message)})
}

// besideTheDaemon reports whether this pass is a person's attempt that leaves the daemon's next one where it is: before its time, or after a
// failure that costs nothing. After one that the CA counts, a command that has waited until then is an attempt like any other: without a
// daemon, commands are all there is.
func (p *pass) besideTheDaemon(f *state.Failure, charged bool) bool {
	return !p.options.Daemon && !stale(f) && (!charged || time.Now().Before(f.NotBefore))
}

// endOfLife returns when the first of the certificates in service ends; zero if there is none.
func (p *pass) endOfLife() (end time.Time) {
	for _, key := range p.want.Keys {
		slot := p.have.Record.Slot(key)
		g, err := p.lineage.Generation(cmp.Or(slot.Served, slot.Current))
		if err == nil && (end.IsZero() || g.NotAfter.Before(end)) {
			end = g.NotAfter
		}
	}
	return end
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// chargedToCA reports whether the CA counts this failure against one of its limits.
func chargedToCA(err error) bool {
	e, ok := errors.AsType[interface {
		error
		ChargedToCA() bool
	}](err)
	return ok && e.ChargedToCA()
}

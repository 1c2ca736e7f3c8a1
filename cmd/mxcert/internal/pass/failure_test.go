package pass

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// When a failed pass may be repeated.
func TestRecordFailure(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	mine, now := o.want().Fingerprint(), time.Now()
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for _, tt := range []struct {
		what        string
		before      *state.Failure
		err         error
		held        time.Time // until when the files are left alone
		count       int
		after, most time.Duration // the next try
		charged     bool
	}{
		{"the first", nil, errBoom, time.Time{}, 1, time.Minute, 67 * time.Second, false},
		{"the second", &state.Failure{Count: 1, Fingerprint: mine}, errBoom, time.Time{}, 2, 10 * time.Minute, 11 * time.Minute, false},
		{"the third", &state.Failure{Count: 2, Fingerprint: mine}, errBoom, time.Time{}, 3, 100 * time.Minute, 110 * time.Minute, false},
		{"the tenth", &state.Failure{Count: 9, Fingerprint: mine}, errBoom, time.Time{}, 10, 24 * time.Hour, 27 * time.Hour, false},
		{"the first after an edit", &state.Failure{Count: 9, Fingerprint: "older"}, errBoom, time.Time{}, 1, time.Minute, 67 * time.Second, false},
		{"the CA says when", nil, &fault{wait: 2 * time.Hour, charged: true}, time.Time{}, 1, 2 * time.Hour, 133 * time.Minute, true},
		{"the CA says when, which is too soon", nil, &fault{wait: time.Second, charged: true}, time.Time{}, 1, time.Minute, 67 * time.Second, true},
		{"one of another kind does not shorten the CA's peace", &state.Failure{At: in(-time.Minute), Count: 1, NotBefore: in(5 * time.Hour), ChargedToCA: true, Fingerprint: "older"},
			errBoom, time.Time{}, 1, 5*time.Hour - time.Second, 5 * time.Hour, true},
		{"that peace is over", &state.Failure{Count: 1, NotBefore: in(-time.Second), ChargedToCA: true, Fingerprint: mine}, errBoom, time.Time{}, 2, 10 * time.Minute, 11 * time.Minute, false},
		{"that peace is of a clock that was ahead", &state.Failure{At: in(time.Hour), NotBefore: in(5 * time.Hour), ChargedToCA: true}, errBoom, time.Time{}, 1, time.Minute, 67 * time.Second, false},
		{"a longer backoff than that peace", &state.Failure{At: now, Count: 2, NotBefore: in(time.Minute), ChargedToCA: true, Fingerprint: mine}, errBoom, time.Time{}, 3, 100 * time.Minute, 110 * time.Minute, true},
		{"files that something else changes", nil, &driftError{}, in(40 * time.Minute), 1, 40*time.Minute - time.Second, 40 * time.Minute, false},
		{"such files, in the CA's peace", &state.Failure{At: now, NotBefore: in(5 * time.Hour), ChargedToCA: true, Fingerprint: mine}, &driftError{}, in(40 * time.Minute), 1, 5*time.Hour - time.Second, 5 * time.Hour, true},
	} {
		p := &pass{Runner: o.runner(), want: o.want(), say: o.say, lineage: o.lineage(), have: o.have(), heldUntil: tt.held, options: byDaemon}
		p.have.Record.Failure = tt.before
		p.recordFailure(report.At("order", tt.err))
		f := p.have.Record.Failure
		if f.Count != tt.count || f.ChargedToCA != tt.charged || f.Fingerprint != mine || f.Stage != "order" || f.NotBefore.Before(in(tt.after).Truncate(time.Second)) || f.NotBefore.After(in(tt.most+5*time.Second)) {
			t.Errorf("%s: %+v, again after %s, want %s to %s", tt.what, f, f.NotBefore.Sub(now), tt.after, tt.most)
		}
		if last := p.have.Record.Events[len(p.have.Record.Events)-1]; last.Event != "failed" || !strings.HasPrefix(last.Message, "order: ") {
			t.Errorf("%s: the history ends with %+v", tt.what, last)
		}
	}
}

// TestAttemptsByHand: a person's attempts that fail do not move the daemon's next one, unless the CA counts them and they waited for it.
func TestAttemptsByHand(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	mine, now := o.want().Fingerprint(), time.Now().UTC().Truncate(time.Second)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	counted := &fault{charged: true}
	for _, tt := range []struct {
		what    string
		options Options
		before  *state.Failure
		err     error
		count   int
		next    time.Time // zero: a minute later
	}{
		{"before its time", renew, &state.Failure{Count: 1, NotBefore: in(time.Minute), Fingerprint: mine}, errBoom, 1, in(time.Minute)},
		{"at once, before its time", atOnce, &state.Failure{Count: 3, NotBefore: in(time.Hour), Fingerprint: mine}, errBoom, 3, in(time.Hour)},
		{"after its time", renew, &state.Failure{Count: 2, NotBefore: in(-time.Hour), Fingerprint: mine}, errBoom, 2, in(-time.Hour)},
		{"counted, at once", atOnce, &state.Failure{Count: 2, NotBefore: in(time.Hour), Fingerprint: mine}, counted, 2, in(time.Hour)},
		{"counted, after its time", renew, &state.Failure{Count: 0, NotBefore: in(-time.Hour), Fingerprint: mine}, counted, 1, time.Time{}},
		{"the CA says when", atOnce, &state.Failure{Count: 2, NotBefore: in(time.Hour), Fingerprint: mine}, &fault{wait: 3 * time.Hour}, 2, in(3 * time.Hour)},
		{"after an edit", renew, &state.Failure{Count: 7, NotBefore: in(24 * time.Hour), Fingerprint: "older"}, errBoom, 1, time.Time{}},
		{"the first", renew, nil, errBoom, 1, time.Time{}},
	} {
		p := &pass{Runner: o.runner(), want: o.want(), say: o.say, lineage: o.lineage(), have: o.have(), options: tt.options}
		p.have.Record.Failure = tt.before
		p.recordFailure(tt.err)
		f, next := p.have.Record.Failure, tt.next
		if next.IsZero() {
			next = in(time.Minute)
		}
		if late := f.NotBefore.Sub(next); f.Count != tt.count || late < 0 || late > 20*time.Minute || !tt.next.IsZero() && tt.next.Sub(now) <= time.Hour && late != 0 {
			t.Errorf("%s: %d in a row, again %s, want %s", tt.what, f.Count, f.NotBefore.Sub(now), next.Sub(now))
		}
	}
}

// TestTriesBeforeTheEnd: however often a renewal has failed, the next try comes well before the certificate in service ends.
func TestTriesBeforeTheEnd(t *testing.T) {
	t.Parallel()
	for _, left := range []time.Duration{4 * time.Minute, 12 * time.Hour, -time.Hour} {
		o := newOffline(t)
		b := o.sign(bundle.EC256, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		o.keep(b, time.Now().Add(-24*time.Hour))
		for _, count := range []int{1, 2, 3, 9} {
			p := &pass{Runner: o.runner(), want: o.want(), say: o.say, lineage: o.lineage(), have: o.have(), options: byDaemon}
			p.have.Record.Failure = &state.Failure{Count: count, Fingerprint: o.want().Fingerprint()}
			p.recordFailure(errBoom)
			if wait := time.Until(p.have.Record.Failure.NotBefore); wait > left.Abs()/8+time.Second {
				t.Errorf("%s left, %d failures: again in %s", left, count+1, wait)
			}
			if end := p.claim(0, bundle.EC256).Expires; !end.Equal(b.NotAfter()) {
				t.Errorf("the claim ends at %s", end)
			}
		}
	}
}

// TestFourCommandsInARow: while the CA is away, commands try at once, as often as a person likes, and the daemon's next attempt stays.
func TestFourCommandsInARow(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{Wrap: ca.OutOfOrder(ca.Directory)}}, lab.ConfigOptions{})
	h.pass(report.CodeTemporary, byDaemon)
	first := *h.record().Failure
	for range 4 {
		h.pass(report.CodeTemporary, renew)
	}
	if f := h.record().Failure; f.Count != 1 || !f.NotBefore.Equal(first.NotBefore) {
		t.Errorf("%d in a row, again at %s; before %s", f.Count, f.NotBefore, first.NotBefore)
	}
	h.CA.SetWrap(nil)
	if c := h.pass(report.CodeOK, renew); c.Stage != report.Served {
		t.Errorf("%+v", c)
	}
}

package daemon

import (
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

func TestNextPass(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) *time.Time { return new(now.Add(d)) }
	for _, tt := range []struct {
		what   string
		report report.Certificate
		want   time.Duration
	}{
		{"nothing known", report.Certificate{}, time.Hour},
		{"renewal in weeks", report.Certificate{NextRenewal: in(500 * time.Hour)}, time.Hour},
		{"renewal in a quarter", report.Certificate{NextRenewal: in(15 * time.Minute)}, 15 * time.Minute},
		{"renewal overdue", report.Certificate{NextRenewal: in(-time.Minute)}, time.Second},
		{"renewal now", report.Certificate{NextRenewal: in(0)}, time.Second},
		{"first failure", report.Certificate{NextTry: in(time.Minute)}, time.Minute},
		{"failure of a renewal that is due", report.Certificate{NextTry: in(time.Minute), NextRenewal: in(-time.Hour)}, time.Minute},
		{"long backoff of an order: files are looked at all the same", report.Certificate{NextTry: in(24 * time.Hour), NextRenewal: in(-time.Hour)}, time.Hour},
		{"long backoff of a deployment: mail is left alone", report.Certificate{NextTry: in(24 * time.Hour), NextRenewal: in(time.Hour), OutOfService: true}, 24 * time.Hour},
		{"backoff that is over", report.Certificate{NextTry: in(-time.Minute)}, time.Second},
	} {
		if got := nextPass(tt.report, now).Sub(now); got != tt.want {
			t.Errorf("%s: in %s, want %s", tt.what, got, tt.want)
		}
	}
}

func TestNextPassKeepsLookingInBackoff(t *testing.T) {
	now := time.Now()
	tomorrow, soon, past := now.Add(24*time.Hour), now.Add(time.Minute), now.Add(-time.Hour)
	for _, tt := range []struct {
		report report.Certificate
		want   time.Duration
	}{
		{report.Certificate{}, time.Hour},
		{report.Certificate{NextTry: &tomorrow}, time.Hour},
		{report.Certificate{NextTry: &soon}, time.Minute},
		{report.Certificate{NextTry: &past}, time.Second},
		{report.Certificate{NextRenewal: &soon}, time.Minute},
		{report.Certificate{NextRenewal: &tomorrow}, time.Hour},
		{report.Certificate{NextRenewal: &past}, time.Second},
	} {
		if got := nextPass(tt.report, now).Sub(now); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.report, got, tt.want)
		}
	}
}

// The watchdog goes hungry when any pass has outlived its own deadline, and one of an older configuration does not hide
// another.
func TestHangs(t *testing.T) {
	t.Parallel()
	const limit = passTime + 5*time.Minute
	for _, tt := range []struct {
		what string
		ages []time.Duration
		want bool
	}{
		{"asleep", nil, false},
		{"at work", []time.Duration{time.Minute, passTime}, false},
		{"at its deadline", []time.Duration{passTime + time.Minute}, false},
		{"one of several hangs", []time.Duration{0, limit + time.Minute, time.Minute}, true},
	} {
		d := New(Options{})
		var passes []*order
		for _, age := range tt.ages {
			p := &order{}
			d.began(p)
			d.progress[p] = time.Now().Add(-age)
			passes = append(passes, p)
		}
		if got := d.hangs(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
		for i, p := range passes {
			if tt.ages[i] < limit { // the end of the others changes nothing
				d.ended(p)
			}
		}
		if got := d.hangs(); got != tt.want {
			t.Errorf("%s, after the others ended: %v, want %v", tt.what, got, tt.want)
		}
		for _, p := range passes {
			d.ended(p)
		}
		if d.hangs() || len(d.progress) > 0 {
			t.Errorf("%s: passes that ended are remembered: %v", tt.what, d.progress)
		}
	}
}

package doctor

import (
	"context"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
)

// What hangs or panics is a finding, and ends nothing else.
func TestTestsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	slow := test{id: "x", run: func(context.Context) []finding.Finding { select {} }}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if got := slow.within(ctx); len(got) != 1 || got[0].Severity != finding.Error || !strings.Contains(got[0].Message, "not end in time") {
		t.Errorf("a test that hangs: %+v", got)
	}
	panics := test{id: "x", run: func(context.Context) []finding.Finding { panic("ouch") }}
	if got := panics.within(t.Context()); len(got) != 1 || !strings.Contains(got[0].Message, "ouch") {
		t.Errorf("a test that panics: %+v", got)
	}
}

func TestClockCheck(t *testing.T) {
	t.Parallel()
	for skew, want := range map[time.Duration]finding.Severity{0: finding.OK, time.Second: finding.OK, -40 * time.Second: finding.Warning, 6 * time.Minute: finding.Error, -time.Hour: finding.Error} {
		c := clockCheck("ca.example", skew)
		if c.Severity != want || (c.Hint == "") != (want == finding.OK) {
			t.Errorf("%s: %+v", skew, c)
		}
		if want != finding.OK && strings.Contains(c.Message, "behind") != (skew < 0) {
			t.Errorf("%s: %s", skew, c.Message)
		}
	}
}

// TestOneCAIsEnough: a second choice makes a renewal possible.
func TestOneCAIsEnough(t *testing.T) {
	t.Parallel()
	check := func(id string, f finding.Finding) Check { return Check{Finding: called(id, f)} }
	away, there := check("ca", bad("away")), check("ca", well("there"))
	if got := oneCAIsEnough([]Check{away, there}); got[0].Severity != finding.Warning {
		t.Errorf("%+v", got)
	}
	if got := oneCAIsEnough([]Check{away, away, check("state", well("x"))}); got[0].Severity != finding.Error || got[1].Severity != finding.Error {
		t.Errorf("%+v", got)
	}
}

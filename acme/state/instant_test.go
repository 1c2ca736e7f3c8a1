package state

import (
	"math/rand/v2"
	"testing"
	"time"
)

// host is a machine whose clocks a test moves. Real is the time that passes for everybody else.
type host struct {
	real      time.Time
	ahead     time.Duration // of the clock
	up, awake time.Duration
	boot      string
	asked     bool // whether an outside clock is asked
}

func newHost() *host {
	return &host{real: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), up: time.Hour, awake: time.Hour, boot: "a"}
}

func (h *host) instant() Instant {
	i := Instant{At: h.real.Add(h.ahead), Boot: h.boot, Up: h.up, Awake: h.awake}
	if h.asked {
		i.Outside = h.real
	}
	return i
}

func (h *host) run(d time.Duration) { h.real, h.up, h.awake = h.real.Add(d), h.up+d, h.awake+d }

func (h *host) suspend(d time.Duration) { h.real, h.up = h.real.Add(d), h.up+d }

// pause is what a hypervisor does to a guest whose clocks do not notice.
func (h *host) pause(d time.Duration) { h.real, h.ahead = h.real.Add(d), h.ahead-d }

func (h *host) reboot(d time.Duration) {
	h.real, h.up, h.awake, h.boot = h.real.Add(d), time.Second, time.Second, h.boot+"'"
}

// TestCounted changes clocks between two moments and asks how much time counts.
func TestCounted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens         func(h *host)
		alone, outsider time.Duration // without and with an outside clock
	}{
		"nothing":                          {func(h *host) { h.run(time.Hour) }, time.Hour, time.Hour},
		"clock drifts forward":             {func(h *host) { h.run(time.Hour); h.ahead += 30 * time.Second }, time.Hour, time.Hour},
		"clock drifts back":                {func(h *host) { h.run(time.Hour); h.ahead -= 30 * time.Second }, time.Hour - 30*time.Second, time.Hour - 30*time.Second},
		"clock set forward":                {func(h *host) { h.run(time.Hour); h.ahead += 48 * time.Hour }, 0, time.Hour},
		"clock set back":                   {func(h *host) { h.run(time.Hour); h.ahead -= 48 * time.Hour }, 0, time.Hour},
		"clock set to 1970":                {func(h *host) { h.run(time.Hour); h.ahead = -57 * 365 * 24 * time.Hour }, 0, time.Hour},
		"suspended":                        {func(h *host) { h.run(time.Minute); h.suspend(time.Hour) }, 0, 61 * time.Minute},
		"suspended shortly":                {func(h *host) { h.run(time.Hour); h.suspend(10 * time.Second) }, time.Hour + 10*time.Second, time.Hour + 10*time.Second},
		"guest paused, clock not":          {func(h *host) { h.run(time.Hour); h.pause(time.Hour); h.ahead += time.Hour }, 0, time.Hour},
		"guest paused with clock":          {func(h *host) { h.run(time.Hour); h.pause(time.Hour) }, time.Hour, time.Hour},
		"rebooted":                         {func(h *host) { h.run(time.Hour); h.reboot(time.Minute); h.run(time.Hour) }, 0, 2*time.Hour + time.Minute},
		"rebooted, clock reads 1970":       {func(h *host) { h.reboot(time.Minute); h.ahead = -57 * 365 * 24 * time.Hour }, 0, time.Minute},
		"another process":                  {func(h *host) { h.run(time.Hour); h.boot = "its own" }, time.Hour, time.Hour},
		"another process, clock set ahead": {func(h *host) { h.run(time.Hour); h.boot = "its own"; h.ahead = 24 * time.Hour }, 0, time.Hour},
		"nobody knows the start":           {func(h *host) { h.run(time.Hour); h.boot = "" }, time.Hour, time.Hour},
		// Nothing tells this from an ordinary two hours, so they count: fewer than have passed.
		"rebooted, and the clock set back to hide it": {func(h *host) { h.reboot(time.Hour); h.run(3 * time.Hour); h.ahead = h.up - 5*time.Hour }, 2*time.Hour + time.Second, 2*time.Hour + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, asked := range []bool{false, true} {
				h, want := newHost(), test.alone
				if h.asked = asked; asked {
					want = test.outsider
				}
				before := h.instant()
				test.happens(h)
				got := h.instant().Counted(before)
				if got != want {
					t.Errorf("with an outside clock %v: counted %v, want %v", asked, got, want)
				}
				if passed := h.real.Sub(before.At); got > passed {
					t.Errorf("counted %v, but only %v have passed", got, passed)
				}
			}
		})
	}
}

// TestCountedNeverTooMuch lets clocks do anything: more than has passed never counts, whatever the parts are that it is counted in.
func TestCountedNeverTooMuch(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	some := func() time.Duration { return time.Duration(rng.Int64N(int64(2 * time.Hour))) }
	var counted, passed time.Duration
	for range 2000 {
		h := newHost()
		last := h.instant()
		start := h.real
		var sum time.Duration
		for range 20 {
			switch h.asked = rng.IntN(3) == 0; rng.IntN(8) {
			case 0:
				h.suspend(some())
			case 1:
				h.reboot(some())
			case 2:
				h.ahead += some()
				h.ahead -= some()
			case 3:
				h.pause(some())
			case 4:
				h.boot += "+"
			}
			h.run(some())
			now := h.instant()
			sum += now.Counted(last)
			last = now
		}
		if all := h.real.Sub(start); sum > all {
			t.Fatalf("counted %v of %v", sum, all)
		}
		counted, passed = counted+sum, passed+h.real.Sub(start)
	}
	if counted < passed/4 {
		t.Errorf("of %v only %v count: this test sees little", passed, counted)
	}
}

// A state file may hold any numbers.
func TestCountedOfNonsense(t *testing.T) {
	t.Parallel()
	far := Instant{At: time.Unix(1<<40, 0), Up: 1<<63 - 1, Awake: -1 << 63, Outside: time.Unix(1<<50, 0)}
	near := Instant{At: time.Unix(1, 0), Up: -1 << 63, Awake: 1<<63 - 1, Outside: time.Unix(1, 0)}
	for _, pair := range [][2]Instant{{far, near}, {near, far}, {far, far}, {{}, near}, {near, {}}} {
		if d := pair[0].Counted(pair[1]); d < 0 {
			t.Errorf("%v of %+v", d, pair)
		}
	}
}

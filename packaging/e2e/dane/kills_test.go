package dane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// The daemon is killed at random moments of rollovers, MXCERT_KILLS times, while mail arrives. None is deferred, no record of somebody else
// changes, and every rollover ends.
func TestKillsDuringRollovers(t *testing.T) {
	t.Parallel()
	kills := number(t, "MXCERT_KILLS", 8)
	seed := uint64(number(t, "MXCERT_KILLS_SEED", int(time.Now().UnixNano()%1e9)))
	fmt.Fprintf(os.Stdout, "figure: %s: seed %d\n", t.Name(), seed)
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test
	const foreign = "2 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	w := newTown(t, &site{name: "nsec"}, &site{name: "knot", service: "knot"}, &site{name: "api", service: "pdns", nsec3: true, backend: "powerdns"},
		&site{name: "two", kinds: []string{"ec256", "rsa2048"}})
	w.install()
	w.must("systemctl", "start", "mxcert")
	w.each(t, func(s *site) error {
		if err := w.awaitSteady(t.Context(), s, startLimit); err != nil {
			return err
		}
		if err := w.publish(t.Context(), s, foreign); err != nil {
			return err
		}
		return w.awaitSteady(t.Context(), s, rollLimit, foreign)
	})
	if t.Failed() {
		t.Fatal(w.Mail.Diagnose())
	}
	began := time.Now()
	done := w.during(t, func(ctx context.Context) {
		for killed := 0; killed < kills; {
			for _, s := range w.sites {
				go w.mxcert(ctx, "tlsa", "roll", s.name) // the daemon that answers may be killed
			}
			for range 4 {
				wait(ctx, time.Duration(random.IntN(3500))*time.Millisecond)
				r, err := w.Mail.Run(ctx, "systemctl", "kill", "--signal=KILL", "--kill-whom=main", "mxcert")
				if err == nil && r.Code == 0 {
					killed++
				}
			}
			wait(ctx, time.Duration(random.IntN(6000))*time.Millisecond)
		}
		w.each(t, func(s *site) error {
			if err := w.awaitSteady(ctx, s, rollLimit, foreign); err != nil {
				return err
			}
			return w.roll(ctx, s, rollLimit, foreign)
		})
	})
	w.judge(t, done)
	total := 0
	for _, s := range w.sites {
		for _, n := range done.rolls(s) {
			total += n
		}
	}
	if total == 0 {
		t.Error("no key was changed, so nothing was interrupted")
	}
	figure(t, "%d kills during %d rollovers of keys, %s, in %.0f s", kills, total, done, time.Since(began).Seconds())
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
	}
}

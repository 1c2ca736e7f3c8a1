package dane

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	fmt.Fprintf(os.Stdout, "figure: %s: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

// number is a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// chosen are the sites whose names MXCERT_SITES matches; all if it is not set.
func chosen(sites []*site) []*site {
	only := regexp.MustCompile(os.Getenv("MXCERT_SITES"))
	return slices.DeleteFunc(sites, func(s *site) bool { return !only.MatchString(s.name) })
}

// everySite is one site of each kind that has to be shown.
func everySite() []*site {
	return []*site{
		{name: "nsec"},
		{name: "nsec3", nsec3: true, kinds: []string{"ec256", "rsa2048"}},
		{name: "inline", signing: "inline"},
		{name: "inline3", signing: "inline", nsec3: true, hosts: []string{"mx", "host7"}, ports: []int{25, 587}},
		{name: "knot", service: "knot"},
		{name: "pdns", service: "pdns"},
		{name: "api", service: "pdns", nsec3: true, backend: "powerdns"},
		{name: "hook", backend: "hook"},
		{name: "gate", backend: "gate"},
		{name: "slow", service: "knot", nsec3: true, hold: "10s", slow: true},
	}
}

// startLimit is how long the first certificates and the first publication may take.
const startLimit = 8 * time.Minute

// rollLimit is how long a whole rollover may take on a busy machine. It takes some twenty seconds.
const rollLimit = 8 * time.Minute

// Complete rollovers, each of: one key type, two, several names and ports, mode gate, and publication by each kind of service, between real
// servers, while mail arrives: none is deferred. The same with --ignore-dane defers mail.
//
// MXCERT_ROLLOVERS says how many rollovers of each there are, and MXCERT_DELIVERIES how many mails of Postfix at least.
func TestRollovers(t *testing.T) {
	t.Parallel()
	rolls, least := number(t, "MXCERT_ROLLOVERS", 1), number(t, "MXCERT_DELIVERIES", 200)
	w := newTown(t, chosen(everySite())...)
	w.install()
	w.must("systemctl", "start", "mxcert")
	operated, stop := context.WithCancel(t.Context())
	defer stop()
	for _, s := range w.sites {
		if s.backend == "gate" {
			go w.operator(operated, s)
		}
	}
	w.each(t, func(s *site) error { return w.awaitSteady(t.Context(), s, startLimit) })
	if t.Failed() {
		t.Fatal(w.Mail.Diagnose())
	}
	t.Run("with the gate", func(t *testing.T) { w.rollAll(t, rolls, least) })
	t.Run("ignore-dane", func(t *testing.T) { w.rollBlindly(t) })
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
	}
}

// each does something with every site at once.
func (w *town) each(t *testing.T, do func(s *site) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, s := range w.sites {
		all.Go(func() {
			if err := do(s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func (w *town) rollAll(t *testing.T, rolls, least int) {
	began := time.Now()
	done := w.during(t, func(ctx context.Context) {
		w.each(t, func(s *site) error {
			for i := range rolls {
				started := time.Now()
				if err := w.roll(ctx, s, rollLimit); err != nil {
					return fmt.Errorf("rollover %d: %w", i+1, err)
				}
				t.Logf("%s: rollover %d in %v", s.name, i+1, time.Since(started).Round(time.Second))
			}
			return nil
		})
		for limit := time.Now().Add(10 * time.Minute); w.sending.tallies()["Postfix"].sent < least && time.Now().Before(limit); {
			wait(ctx, time.Second)
		}
	})
	for name, c := range done.counts {
		if c.deferred > 0 || c.sent == 0 {
			t.Errorf("%s: %d sent, %d deferred:\n%v", name, c.sent, c.deferred, c.lines)
		}
	}
	for _, b := range done.broken {
		t.Errorf("%s %s", clock(b.at), b.reason)
	}
	if sent := done.counts["Postfix"].sent; sent < least {
		t.Errorf("Postfix delivered %d mails, fewer than %d", sent, least)
	}
	total := 0
	for _, s := range w.sites {
		for kind, n := range done.rolls(s) {
			if n < rolls {
				t.Errorf("%s: the recorder has seen %d changes of the %s key, fewer than %d", s.name, n, kind, rolls)
			}
			total += n
		}
	}
	figure(t, "%d rollovers of keys at %d sites, %s, in %.0f s", total, len(w.sites), done, time.Since(began).Seconds())
}

// rollBlindly changes keys without asking what senders hold: the first time to the key whose record has been there for long, and then to keys
// that no record names. As long as the record of an old key has its grace, that of another next key is not added, and here the grace is a day:
// how fast the machine is does not matter.
func (w *town) rollBlindly(t *testing.T) {
	const least, most = 3, 12 // times
	began := time.Now()
	for _, s := range w.sites {
		s.hold = "24h"
	}
	w.configure()
	w.must("systemctl", "reload", "mxcert")
	times := 0
	done := w.during(t, func(ctx context.Context) {
		for ; times < most && !t.Failed() && (times < least || w.sending.tallies()["Postfix"].refused == 0); times++ {
			w.each(t, func(s *site) error {
				before, err := w.keys(s)
				if err != nil {
					return err
				}
				r := w.mxcert(ctx, "renew", s.name, "--new-key", "--ignore-dane")
				if after, err := w.keys(s); err != nil || after[s.kinds[0]] == before[s.kinds[0]] {
					return fmt.Errorf("renew %s --new-key --ignore-dane: the key stays, %v: exit status %d\n%s%s", s.name, err, r.Code, r.Stdout, r.Stderr)
				}
				return nil
			})
		}
	})
	if c := done.counts["Postfix"]; c.refused == 0 {
		t.Errorf("Postfix has refused no key, though %d times keys were served that no record named: %s\n%v", times, done, c.lines)
	}
	if len(done.broken) == 0 {
		t.Error("the checker finds nothing, though keys were served that no record named")
	}
	figure(t, "the same with --ignore-dane, %d times: %s; Postfix refused the key %d times, in %.0f s", times, done, done.counts["Postfix"].refused, time.Since(began).Seconds())
}

package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/hooks/watch"
)

// A few changes of an hour are looked into at once; later ones when the files are left alone, or after less than a minute;
// those after a failure when they are left alone.
func TestDriftWatchKeepsCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "mx.crt")
		c := &watched{name: "mx"}
		d := &driftWatch{log: slog.New(slog.NewTextHandler(io.Discard, nil)), watched: map[string]*watched{"mx": c}}
		roused := make(chan struct{}, 1)
		rouse := func() {
			select {
			case roused <- struct{}{}:
			default: // it is no longer asleep
			}
		}
		d.asleep("mx", rouse)
		n := 0
		change := func() {
			n++
			if err := os.WriteFile(file, []byte(strings.Repeat("x", n)), 0o600); err != nil {
				t.Fatal(err)
			}
			d.look()
			synctest.Wait()
		}
		settled := func() { c.left, c.seen, c.since = watch.Fingerprints([]string{file}), nil, time.Time{} }
		woken := func(want bool, when string) {
			t.Helper()
			select {
			case <-roused:
				settled()
				if !want {
					t.Errorf("%s: woken", when)
				}
			default:
				if want {
					t.Errorf("%s: not woken", when)
				}
			}
		}
		change()
		woken(false, "before anything is known of the files")
		settled()
		for i := range freeWakes {
			change()
			woken(true, fmt.Sprintf("change %d", i+1))
		}
		often := func() (woken int) {
			for range 100 {
				change()
				select {
				case <-roused:
					settled()
					woken++
				default:
				}
				time.Sleep(time.Second)
			}
			return woken
		}
		if n := often(); n != 2 {
			t.Errorf("100 changes in as many seconds: woken %d times", n)
		}
		settled()
		change()
		for range 20 { // others' files change all the same
			time.Sleep(time.Second)
			d.look()
		}
		time.Sleep(calm - 20*time.Second)
		synctest.Wait()
		woken(true, "left alone")
		time.Sleep(time.Hour)
		change()
		woken(true, "after an hour")
		c.uneasy = true
		if n := often(); n != 0 {
			t.Errorf("100 changes in as many seconds after a failure: woken %d times", n)
		}
		time.Sleep(calm)
		synctest.Wait()
		woken(true, "after a failure, left alone")
		d.awake("mx")
		change()
		time.Sleep(calm)
		synctest.Wait()
		woken(false, "while it is awake")
		d.asleep("mx", rouse)
		synctest.Wait()
		woken(true, "as soon as it sleeps")
		c.uneasy, c.busy = false, true
		change()
		woken(false, "while a pass is under way")
	})
}

// Two certificates share an SNI map. While the pass of one may be writing it, the other takes a change of it for no drift; the end
// of that pass looks again.
func TestSharedFileOfAPassUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := filepath.Join(t.TempDir(), "sni.map")
		own := filepath.Join(t.TempDir(), "mx.crt")
		write := func(file, text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(shared, "1")
		write(own, "1")
		mx := &watched{name: "mx", left: watch.Fingerprints([]string{own, shared})}
		other := &watched{name: "other", left: watch.Fingerprints([]string{shared})}
		d := &driftWatch{log: slog.New(slog.NewTextHandler(io.Discard, nil)), watched: map[string]*watched{"mx": mx, "other": other}}
		roused := 0
		d.asleep("mx", func() { roused++ })
		look := func(want int, when string) {
			t.Helper()
			d.look()
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if roused != want {
				t.Errorf("%s: woken %d times, not %d", when, roused, want)
			}
		}
		d.Begin("other")
		write(shared, "22")
		look(0, "the pass of the other certificate is under way")
		write(own, "22")
		look(1, "a file of its own changed meanwhile")
		mx.left = watch.Fingerprints([]string{own})
		mx.left[shared] = "as it was"
		mx.seen = nil
		other.busy = false
		look(2, "the other pass ended, and has not said that it wrote the map")
	})
}

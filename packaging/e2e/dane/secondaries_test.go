package dane

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// stop ends one of the servers.
func (s *servers) stop(name string) { s.runs[name].Stop() }

// dump copies a zone as a server gives it to a file, signatures and all.
func (s *servers) dump(ctx context.Context, of *site, path string) error {
	_, err := s.host.Must(ctx, "sh", "-ec", fmt.Sprintf("dig +onesoa +noidnout axfr %s @%s >%s; grep -q SOA %[3]s", of.domain(), of.servers()[0], path))
	return err
}

// freeze has the prompt secondary serve files, and ask nobody for newer versions of these zones; without files, it follows the primary again.
func (s *servers) freeze(ctx context.Context, files map[*site]string) error {
	s.stop("prompt")
	s.frozen = files
	if err := s.host.Write(live+"prompt/knot.conf", s.promptConf(), 0o644); err != nil {
		return err
	}
	if _, err := s.host.Must(ctx, "sh", "-c", "rm -rf "+live+"prompt/*.test "+live+"prompt/journal "+live+"prompt/timers"); err != nil {
		return err
	}
	return s.start("prompt")
}

// strip removes the signatures of a zone file; expire makes all of them anew, with keys of its own directory, for last month.
const (
	strip  = `grep -v -e RRSIG -e NSEC -e DNSKEY -e CDS -e TYPE65534 %[1]s >%[2]s`
	expire = `grep -v -e RRSIG -e NSEC -e CDS -e TYPE65534 %[1]s >%[2]s.plain; cd /srv/live/bind; ` +
		`dnssec-signzone -q -z -P -d /tmp -O full -s 20200101000000 -e 20200201000000 -o %[3]s -f %[2]s %[2]s.plain K%[3]s.*.private >/dev/null`
)

// A secondary that is broken in each way holds a change of keys back as long as it has to, and no longer; and costs no mail beyond what it
// costs itself.
func TestSecondaries(t *testing.T) {
	t.Parallel()
	never, restored := &site{name: "never"}, &site{name: "restored"}
	unsigned, expired := &site{name: "unsigned"}, &site{name: "expired"}
	w := newTown(t, never, restored, unsigned, expired)
	w.install()
	w.must("systemctl", "start", "mxcert")
	w.each(t, func(s *site) error { return w.awaitHeld(t.Context(), s, startLimit) })
	if t.Failed() {
		t.Fatal(w.Mail.Diagnose())
	}
	t.Run("silent", func(t *testing.T) {
		w.whileBroken(t, []*site{never}, func(context.Context) error { w.Zones.stop("prompt"); return nil })
	})
	file := func(s *site) string { return live + "copy-" + s.name }
	w.check(w.Zones.dump(t.Context(), restored, file(restored)))
	w.check(w.roll(t.Context(), restored, rollLimit))
	t.Run("outdated, unsigned or expired", func(t *testing.T) {
		w.whileBroken(t, w.sites, func(ctx context.Context) error {
			files := map[*site]string{restored: file(restored)}
			for s, script := range map[*site]string{never: "cp %[1]s %[2]s", unsigned: strip, expired: expire} {
				files[s] = file(s)
				if err := w.Zones.dump(ctx, s, file(s)+".now"); err != nil {
					return err
				}
				if _, err := w.Receiver.Must(ctx, "sh", "-ec", fmt.Sprintf(script+"\n: %[3]s", file(s)+".now", file(s), s.domain())); err != nil {
					return err
				}
			}
			return w.Zones.freeze(ctx, files)
		}, unsigned, expired) // resolvers may find no other server
	})
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
	}
}

// whileBroken breaks a secondary while mail is sent, and changes keys before and after it works again. Mail to some sites may be deferred.
func (w *town) whileBroken(t *testing.T, sites []*site, breaks func(ctx context.Context) error, mayDefer ...*site) {
	t.Helper()
	began := time.Now()
	among := func(do func(s *site) error) { // the others rest
		w.each(t, func(s *site) error {
			if !slices.Contains(sites, s) {
				return nil
			}
			return do(s)
		})
	}
	done := w.during(t, func(ctx context.Context) {
		among(func(s *site) error { return w.awaitHeld(ctx, s, rollLimit) })
		if err := breaks(ctx); err != nil {
			t.Error(err)
			return
		}
		among(func(s *site) error {
			w.rollAsked(ctx, t, s) // a key that went through its hold before the fault may take over
			before, err := w.keys(s)
			if err != nil {
				return err
			}
			w.rollAsked(ctx, t, s)
			wait(ctx, 12*time.Second)
			if after, err := w.keys(s); err != nil || after["ec256"] != before["ec256"] {
				return fmt.Errorf("%s: the key was changed although a server does not give the record of the new one: %v", s.name, err)
			}
			t.Logf("%s", w.mxcert(ctx, "tlsa", "check", s.name).Stdout)
			return nil
		})
		if err := w.Zones.freeze(ctx, nil); err != nil {
			t.Error(err)
		}
		among(func(s *site) error {
			if err := w.awaitSteady(ctx, s, rollLimit); err != nil {
				return err
			}
			return w.roll(ctx, s, rollLimit)
		})
	})
	w.judge(t, done, mayDefer...)
	figure(t, "%s, in %.0f s", done, time.Since(began).Seconds())
}

// rollAsked asks for a change of keys, which may have to wait.
func (w *town) rollAsked(ctx context.Context, t *testing.T, s *site) {
	t.Helper()
	if r := w.mxcert(ctx, "tlsa", "roll", s.name); r.Code != 0 && r.Code != 75 && r.Code != 5 {
		t.Errorf("tlsa roll: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// judge wants no mail deferred, but to sites that cannot help it, and nothing that the checker finds.
func (w *town) judge(t *testing.T, done outcome, mayDefer ...*site) {
	t.Helper()
	for name, c := range done.counts {
		deferred := c.deferred
		for _, s := range mayDefer {
			deferred -= c.to[s.domain()]
		}
		if deferred > 0 {
			t.Errorf("%s: %d sent, %d deferred, %d of them must not have been:\n%v", name, c.sent, c.deferred, deferred, c.lines)
		}
	}
	for _, b := range done.broken {
		t.Errorf("%s %s", clock(b.at), b.reason)
	}
}

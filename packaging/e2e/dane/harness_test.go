package dane

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// Rollovers by hand, as the harness must see them: right ones, and with each kind of fault.
func TestRolloverByHand(t *testing.T) {
	t.Parallel()
	early := &site{name: "early", ttl: 8, backend: "hand"}
	before := &site{name: "before", nsec3: true, signing: "inline", kinds: []string{"ec256", "rsa2048"}, backend: "hand"}
	removed, late := &site{name: "removed", service: "knot", backend: "hand"}, &site{name: "late", backend: "hand"}
	w := newTown(t, early, before, removed, late, &site{name: "pdns", service: "pdns", backend: "hand"})
	served := map[*site]map[string]pair{}
	for _, s := range w.sites {
		served[s] = map[string]pair{}
		for _, kind := range s.kinds {
			p, err := makePair(kind, s.names()...)
			w.check(err)
			w.check(w.deploy(s, kind, p))
			w.check(w.publish(t.Context(), s, p.record))
			served[s][kind] = p
		}
	}
	t.Run("right", func(t *testing.T) {
		done := w.during(t, func(ctx context.Context) {
			w.each(t, func(s *site) error {
				for _, kind := range s.kinds {
					if err := w.rollByHand(ctx, s, kind, served[s]); err != nil {
						return err
					}
				}
				return nil
			})
		})
		for name, c := range done.counts {
			if c.sent < 4 {
				t.Errorf("%s: %d sent", name, c.sent)
			}
		}
		w.judge(t, done)
	})
	t.Run("wrong", func(t *testing.T) {
		done := w.during(t, func(ctx context.Context) {
			w.each(t, func(s *site) error {
				next, err := makePair(s.kinds[0], s.names()...)
				if err != nil {
					return err
				}
				switch s {
				case early: // one TTL after every server has the record
					if err := w.publish(ctx, s, next.record); err != nil {
						return err
					}
					wait(ctx, time.Duration(s.ttl)*time.Second)
				case removed: // the record of the served key
					if err := w.publish(ctx, s, next.record); err != nil {
						return err
					}
					return w.withdraw(ctx, s, served[s][s.kinds[0]].record)
				case late: // a server does not follow
					if err := w.Zones.dump(ctx, s, live+"copy-late"); err != nil {
						return err
					}
					if err := w.Zones.freeze(ctx, map[*site]string{s: live + "copy-late"}); err != nil {
						return err
					}
					if err := w.Zones.update(ctx, s, fmt.Sprintf("update add %s. %d TLSA %s", s.owners()[0], s.ttl, next.record)); err != nil {
						return err
					}
					wait(ctx, 2*time.Duration(s.ttl)*time.Second+time.Second)
				case before:
				default:
					return nil
				}
				return w.deploy(s, s.kinds[0], next)
			})
			for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); wait(ctx, time.Second) {
				if all := w.sending.tallies(); all["Postfix"].refused > 0 && all["Exim"].deferred > 0 && all["posttls-finger"].deferred > 0 {
					break
				}
			}
		})
		for name, c := range done.counts {
			if c.deferred == 0 || name == "Postfix" && c.refused == 0 {
				t.Errorf("%s: %d sent, %d deferred, %d for a wrong key, though keys were served that records did not name", name, c.sent, c.deferred, c.refused)
			}
		}
		for _, s := range w.sites {
			i := slices.IndexFunc(done.broken, func(b broken) bool { return b.address == s.address()+":25" })
			if s.name == "pdns" {
				if i >= 0 {
					t.Errorf("the checker finds a fault where there is none: %v", done.broken[i])
				}
				continue
			}
			if i < 0 {
				t.Errorf("%s: the checker finds nothing", s.name)
				continue
			}
			t.Logf("%s: %s %s", s.name, clock(done.broken[i].at), done.broken[i].reason)
		}
	})
}

// rollByHand does what the product does, step by step.
func (w *town) rollByHand(ctx context.Context, s *site, kind string, served map[string]pair) error {
	old := served[kind]
	next, err := makePair(kind, s.names()...)
	if err != nil {
		return err
	}
	if err := w.publish(ctx, s, next.record); err != nil {
		return err
	}
	wait(ctx, 2*time.Duration(s.ttl)*time.Second+time.Second)
	if err := w.deploy(s, kind, next); err != nil {
		return err
	}
	served[kind] = next
	wait(ctx, 2*time.Second)
	return w.withdraw(ctx, s, old.record)
}

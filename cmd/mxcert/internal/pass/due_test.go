package pass

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

// Why a certificate is ordered, one reason after the other, and why not.
func TestDue(t *testing.T) {
	t.Parallel()
	force := Options{Force: true, Asked: time.Now()}
	newKey := Options{NewKey: true, Asked: time.Now()}
	for _, tt := range []struct {
		what    string
		prepare func(*offline, state.Generation)
		options Options
		want    string
	}{
		{"all is well", func(*offline, state.Generation) {}, renew, ""},
		{"its description is damaged", func(o *offline, g state.Generation) {
			o.check(os.WriteFile(filepath.Join(o.lineage().Directory(g.ID), "meta.json"), []byte("{"), 0o600))
		}, renew, ""},
		{"its description is damaged, and another name is wanted", func(o *offline, g state.Generation) {
			o.check(os.WriteFile(filepath.Join(o.lineage().Directory(g.ID), "meta.json"), []byte("{"), 0o600))
			o.edit(`, "host7.example.org"`, "")
		}, renew, "the names have changed"},
		{"its description is of a later version", func(o *offline, g state.Generation) {
			o.check(os.WriteFile(filepath.Join(o.lineage().Directory(g.ID), "meta.json"), []byte(`{"version": 9}`), 0o600))
		}, renew, "its description cannot be read"},
		{"a name less is wanted", func(o *offline, _ state.Generation) { o.edit(`, "host7.example.org"`, "") }, renew, "the names have changed"},
		{"the names stand in another order", func(o *offline, _ state.Generation) {
			o.edit(`["mx.example.org", "host7.example.org"]`, `["host7.example.org", "mx.example.org"]`)
		}, renew, ""},
		{"another CA is wanted", func(o *offline, _ state.Generation) { o.edit(directory, "https://other.example/directory") }, renew, "the CA has changed"},
		{"another CA is preferred", func(o *offline, _ state.Generation) {
			o.edit(fmt.Sprintf("%q", directory), fmt.Sprintf("[%q, %q]", "https://other.example/directory", directory))
		}, renew, ""},
		{"another root is demanded", func(o *offline, _ state.Generation) {
			other, _ := newAuthority(o.t)
			o.put("roots.pem", string(pemOf(other)))
		}, renew, "it does not lead to a root in acme.roots_file"},
		{"no root is demanded", func(o *offline, _ state.Generation) { o.edit("  roots_file:", "  # roots_file:") }, renew, ""},
		{"expired", func(o *offline, _ state.Generation) {
			o.edit("  roots_file:", "  # roots_file:")
			o.inService(o.keep(o.sign(bundle.EC256, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), time.Now().Add(-time.Hour)))
		}, renew, "it has expired"},
		{"revoked", func(o *offline, g state.Generation) {
			o.check(o.lineage().SaveRevocation(g.ID, state.Revocation{Done: time.Now()}))
		}, renew, "it was revoked"},
		{"about to be revoked", func(o *offline, g state.Generation) { o.check(o.lineage().SaveRevocation(g.ID, state.Revocation{})) }, renew, "its revocation has started"},
		{"its key is compromised", func(o *offline, g state.Generation) {
			o.check(o.lineage().SaveRevocation(g.ID, state.Revocation{KeyCompromised: true}))
		}, renew, "its key must not be used any more"},
		{"an order is in flight", func(o *offline, _ state.Generation) { o.inFlight(directory) }, renew, "an earlier order is not finished"},
		{"an order is in flight elsewhere", func(o *offline, _ state.Generation) { o.inFlight("https://other.example/directory") }, renew, ""},
		{"its time has come", func(o *offline, _ state.Generation) { o.makeDue() }, renew, "its renewal time has come"},
		{"its time has come, and it was rolled back to", func(o *offline, g state.Generation) {
			o.makeDue()
			o.remember(func(r *state.Record) { r.Slot(g.Key).RolledBack = true })
		}, renew, ""},
		{"a person asks", func(*offline, state.Generation) {}, force, "asked for"},
		{"a person asks for a new key", func(*offline, state.Generation) {}, newKey, "a new key was asked for"},
		{"a person asked, and another process was faster", func(o *offline, _ state.Generation) {
			o.inService(o.keep(o.sign(bundle.EC256, nil, nil), time.Now()))
		}, force, ""},
		{"a person asked, and the clock was ahead when it was issued", func(o *offline, _ state.Generation) {
			o.inService(o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(time.Hour)))
		}, force, "asked for"},
		{"a person asks, and a certificate waits", func(o *offline, _ state.Generation) {
			o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(-time.Minute))
		}, force, ""},
		{"a person asks for a new key, and one waits", func(o *offline, _ state.Generation) {
			o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(-time.Minute))
		}, newKey, ""},
		{"a person asks for a new key, and a certificate with the old one waits", func(o *offline, g state.Generation) {
			b, err := o.lineage().Bundle(g.ID)
			o.check(err)
			o.keep(o.sign(bundle.EC256, b.Key(), nil), time.Now().Add(-time.Minute))
		}, newKey, "a new key was asked for"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			o, options := newOffline(t), tt.options
			g := o.issued()
			if !options.Asked.IsZero() { // it may be long ago that this test was listed
				options.Asked = time.Now()
			}
			tt.prepare(o, g)
			if got := o.begin(options).due(0, bundle.EC256); got != tt.want {
				t.Errorf("due: %q, want %q", got, tt.want)
			}
			if waits := strings.HasSuffix(tt.what, "waits") && tt.want == ""; o.heard("is not in service yet; deploying that one first") != waits {
				t.Errorf("said: %q", o.said)
			}
		})
	}
	if got := newOffline(t).begin(renew).due(0, bundle.EC256); got != "there is none yet" {
		t.Errorf("nothing is stored: %q", got)
	}
}

// A command proves once a day that a chain leads to a required root, and again if the chain or the roots are others. The daemon always does.
func TestDueAfterAProof(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	g := o.issued()
	other, _ := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(other)
	p := o.begin(renew)
	if why := p.due(0, bundle.EC256); why != "" {
		t.Fatal(why)
	}
	want, b, proven := p.want, p.have.Bundles[0], p.have.Record.Slot(g.Key).Chain
	daemon := renew
	daemon.Daemon = true
	for _, tt := range []struct {
		what    string
		options Options
		change  func()
		due     bool
	}{
		{"the same chain and roots", renew, func() {}, false},
		{"the daemon", daemon, func() {}, true},
		{"other roots", renew, func() { p.want.RootsID = "other" }, true},
		{"another chain", renew, func() { p.have.Bundles[0] = o.sign(bundle.EC256, nil, nil) }, true},
		{"another day", renew, func() { p.have.Record.Slot(g.Key).Chain = "of yesterday" }, true},
	} {
		p.options, p.want, p.have.Bundles[0], p.have.Record.Slot(g.Key).Chain = tt.options, want, b, proven
		p.want.Roots = pool // a proof would fail
		tt.change()
		if got := p.due(0, bundle.EC256) != ""; got != tt.due {
			t.Errorf("%s: due is %t", tt.what, got)
		}
	}
}

// inFlight stores an order that was placed.
func (o *offline) inFlight(directory string) {
	o.t.Helper()
	o.check(o.lineage().SaveOrder(state.Order{URL: directory + "/order/1", Directory: directory, Names: []string{"host7.example.org", "mx.example.org"}, KeyType: bundle.EC256, Fresh: true}))
}

// Who waits for the end of a backoff: the daemon always, a person only for the CA's sake, and nobody after an edit.
func TestHeld(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	fingerprint := o.want().Fingerprint()
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, tt := range []struct {
		what           string
		failure        *state.Failure
		daemon, person bool
	}{
		{"no failure", nil, false, false},
		{"a failure of this host", &state.Failure{Stage: "dns", Kind: "tsig", Fingerprint: fingerprint}, true, false},
		{"one that the CA counts", &state.Failure{Stage: "challenge", Kind: "challenge", ChargedToCA: true, Fingerprint: fingerprint}, true, true},
		{"one of an older configuration", &state.Failure{ChargedToCA: true, Fingerprint: "older"}, false, false},
		{"files that something else changes", &state.Failure{Kind: kindDrift, Fingerprint: fingerprint}, false, false},
		{"such files, and the CA still counts", &state.Failure{Kind: kindDrift, ChargedToCA: true, Fingerprint: fingerprint}, true, true},
		{"of a clock that was ahead", &state.Failure{At: time.Now().Add(time.Hour), ChargedToCA: true, Fingerprint: fingerprint}, false, false},
		{"that is over", &state.Failure{NotBefore: time.Now().Add(-time.Second), ChargedToCA: true, Fingerprint: fingerprint}, false, false},
	} {
		if f := tt.failure; f != nil {
			f.Count, f.Message, f.Hint = 2, "it broke", "fix it"
			if f.NotBefore.IsZero() {
				f.NotBefore = soon
			}
		}
		o.remember(func(r *state.Record) { r.Failure = tt.failure })
		for _, by := range []struct {
			options Options
			waits   bool
		}{{byDaemon, tt.daemon}, {renew, tt.person}, {Options{Force: true}, false}, {Options{NewKey: true, Daemon: true}, false}} {
			p := &pass{Runner: o.runner(), want: o.want(), options: by.options, say: o.say, lineage: o.lineage(), have: o.have()}
			err := p.held(0, bundle.EC256)
			held, isHeld := errors.AsType[*schedule.Held](err)
			if isHeld != by.waits || isHeld != (err != nil) {
				t.Errorf("%s, %+v: %v", tt.what, by.options, err)
			}
			if isHeld && (!held.Until.Equal(soon) || !strings.Contains(held.Error(), "2 failed attempts, the last: it broke") || held.Hint() != "fix it; `mxcert renew --now` tries at once") {
				t.Errorf("%s: %v, %q", tt.what, held, held.Hint())
			}
		}
	}
}

// A CA that failed is left alone by the daemon; a person, or an edited configuration, may try.
func TestHeldByTheCA(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.check(o.store().ChangeUsage(t.Context(), directory, func(u *state.Usage) error {
		u.Breaker.Fail(time.Now(), 0, "out of order")
		return nil
	}))
	for _, tt := range []struct {
		what    string
		options Options
		failure *state.Failure
		waits   bool
	}{
		{"the daemon", byDaemon, nil, true},
		{"a person", renew, nil, false},
		{"the daemon after an edit", byDaemon, &state.Failure{Fingerprint: "older"}, false},
	} {
		o.remember(func(r *state.Record) { r.Failure = tt.failure })
		p := &pass{Runner: o.runner(), want: o.want(), options: tt.options, say: o.say, lineage: o.lineage(), have: o.have()}
		if err := p.held(0, bundle.EC256); (err != nil) != tt.waits || report.IsTemporary(err) != tt.waits {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// An order that is placed is counted already: the limit that it has reached does not keep it from being finished. One that has to be placed is held.
func TestLimitHoldsNoOrderInFlight(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	held := func() error {
		p := &pass{Runner: o.runner(), want: o.want(), names: o.want().Names, options: byDaemon, say: o.say, lineage: o.lineage(), have: o.have()}
		return p.held(0, bundle.EC256)
	}
	o.check(o.store().ChangeUsage(t.Context(), directory, func(u *state.Usage) error {
		for range 10 {
			u.Ledger.Place(time.Now(), schedule.Purchase{Names: o.want().Names, Key: string(bundle.EC256)})
		}
		return nil
	}))
	if _, isHeld := errors.AsType[*schedule.Held](held()); !isHeld {
		t.Error("a new order is not held, although the limit is reached")
	}
	o.inFlight(directory)
	if err := held(); err != nil {
		t.Errorf("the order in flight is not finished: %v", err)
	}
	o.check(o.store().ChangeUsage(t.Context(), directory, func(u *state.Usage) error {
		u.Breaker.Fail(time.Now(), 0, "out of order")
		return nil
	}))
	if err := held(); err == nil {
		t.Error("a CA that has failed is not left alone")
	}
}

// Only if nothing but holds kept an order from being placed is it a hold.
func TestHoldOf(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	held := &schedule.Held{Until: until}
	for _, tt := range []struct {
		what string
		err  error
		ok   bool
	}{
		{"no error", nil, false},
		{"a hold", report.At("order", held), true},
		{"another error", report.At("order", errBoom), false},
		{"one CA is left alone, the other was asked", errors.Join(held, &acme.Error{ErrKind: "ca-refused"}), false},
	} {
		if got, ok := holdOf(tt.err); ok != tt.ok || ok && !got.Equal(until) {
			t.Errorf("%s: %v, %v", tt.what, got, ok)
		}
	}
}

// What the budget of a CA is told of an order.
func TestClaim(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	if c := o.begin(byDaemon).claim(0, bundle.EC256); !c.New || c.Replacement || c.Urgent || c.Person || c.Life != 0 || len(c.Names) != 2 {
		t.Errorf("a first certificate: %+v", c)
	}
	o = newOffline(t)
	g := o.issued()
	if c := o.begin(atOnce).claim(0, bundle.EC256); c.New || c.Replacement || !c.Urgent || !c.Person || c.Life != g.NotAfter.Sub(g.NotBefore) {
		t.Errorf("by hand: %+v", c)
	}
	o = newOffline(t)
	g = o.issued()
	for start, replaces := range map[time.Duration]bool{-time.Minute: true, time.Hour: false} {
		o.remember(func(r *state.Record) { r.Slot(g.Key).Renewal.Start = time.Now().Add(start) })
		p := &pass{Runner: o.runner(), want: o.want(), lineage: o.lineage(), have: o.have()}
		if c := p.claim(0, bundle.EC256); c.Replacement != replaces {
			t.Errorf("the CA's window begins in %s: %+v", start, c)
		}
	}
	o.edit(`, "host7.example.org"`, "")
	if c := o.begin(renew).claim(0, bundle.EC256); !c.New {
		t.Errorf("other names: %+v", c)
	}
}

// The key stays, unless another one is wanted or it must not be used; the old certificate is named.
func TestDemand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		prepare func(*offline, state.Generation)
		options Options
		keeps   bool
	}{
		{"an ordinary renewal", func(*offline, state.Generation) {}, renew, true},
		{"at once", func(*offline, state.Generation) {}, atOnce, true},
		{"a new key is asked for", func(*offline, state.Generation) {}, newKey, false},
		{"keys are not reused", func(o *offline, _ state.Generation) { o.edit("    keys:", "    reuse_key: false\n    keys:") }, renew, false},
		{"an order with a fresh key is in flight", func(o *offline, _ state.Generation) { o.inFlight(directory) }, renew, false},
		{"the key is compromised", func(o *offline, g state.Generation) {
			o.check(o.lineage().SaveRevocation(g.ID, state.Revocation{KeyCompromised: true}))
		}, renew, false},
		{"it was superseded", func(o *offline, g state.Generation) {
			o.check(o.lineage().SaveRevocation(g.ID, state.Revocation{Done: time.Now()}))
		}, renew, true},
	} {
		o := newOffline(t)
		g := o.issued()
		tt.prepare(o, g)
		p := o.begin(tt.options)
		d := p.demand(0, bundle.EC256, nil)
		if (d.Key != nil) != tt.keeps || d.Key != nil && d.Key != p.have.Bundles[0].Key() {
			t.Errorf("%s: the key is kept: %v, want %v", tt.what, d.Key != nil, tt.keeps)
		}
		if d.Replaces == nil || bundle.SerialOf(d.Replaces) != g.Serial || d.ReplacesAt != directory || d.Danger {
			t.Errorf("%s: %+v", tt.what, d)
		}
	}
	if d := newOffline(t).begin(renew).demand(0, bundle.EC256, nil); d.Key != nil || d.Replaces != nil || !d.Danger {
		t.Errorf("a first certificate: %+v", d)
	}
}

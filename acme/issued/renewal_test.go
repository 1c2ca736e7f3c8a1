package issued_test

import (
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Who decides when a certificate is renewed: the CA, else the lifetime; then the maintenance window; never so late that the
// certificate is in danger.
func TestRenewalTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.good(bundle.EC256) // for 90 days, 30 of which have passed: it is in danger 9 days before its end
	latest := schedule.Latest(g.NotBefore, g.NotAfter)
	in := func(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }
	own, byCA := in(29*day), in(20*day)
	renewal := state.RenewalInfo{At: byCA, Start: byCA.Add(-day), End: byCA.Add(day)}
	// Every day for an hour that begins two hours after the time of day of byCA.
	begin := time.Duration((byCA.In(time.Local).Hour()+2)%24) * time.Hour
	window := schedule.Span{Days: [7]bool{true, true, true, true, true, true, true}, From: begin, To: (begin + time.Hour) % (24 * time.Hour)}
	for _, tt := range []struct {
		what    string
		slot    state.Slot
		windows []schedule.Span
		from    time.Time
		to      time.Time
	}{
		{"the lifetime", state.Slot{RenewAt: own}, nil, own, own},
		{"the CA", state.Slot{RenewAt: own, Renewal: renewal}, nil, byCA, byCA},
		{"a CA that gave no window", state.Slot{RenewAt: own, Renewal: state.RenewalInfo{NextCheck: byCA}}, nil, own, own},
		{"too late", state.Slot{RenewAt: g.NotAfter}, nil, latest, latest},
		{"rolled back", state.Slot{RenewAt: own, Renewal: renewal, RolledBack: true}, nil, latest, latest},
		{"the CA, and a maintenance window", state.Slot{RenewAt: own, Renewal: renewal}, []schedule.Span{window}, byCA.Add(-day), byCA.Add(day)},
		{"the lifetime, and a maintenance window", state.Slot{RenewAt: own}, []schedule.Span{window}, own, own.Add(day)},
	} {
		tt.slot.Current = g.ID
		w.remember(func(r *state.Record) { *r.Slot(g.Key) = tt.slot })
		l := w.look(bundle.EC256)
		at := l.RenewalTime(0, tt.windows)
		if at.Before(tt.from) || at.After(tt.to) || !at.Equal(l.RenewalTime(0, tt.windows)) {
			t.Errorf("%s: %s, want %s to %s", tt.what, at, tt.from, tt.to)
		}
		if local := at.In(time.Local); tt.windows != nil && time.Duration(local.Hour())*time.Hour != begin {
			t.Errorf("%s: %s is not in the maintenance window from %s", tt.what, local, begin)
		}
	}
}

// Hosts with the same window do not all come at the same instant of it.
func TestRenewalTimesDiffer(t *testing.T) {
	t.Parallel()
	window := schedule.Span{Days: [7]bool{true, true, true, true, true, true, true}, From: 0, To: 23 * time.Hour}
	at := map[time.Time]bool{}
	start := time.Now().Truncate(24 * time.Hour).Add(20 * day)
	for range 5 {
		w := newWorld(t)
		g := w.good(bundle.EC256)
		w.remember(func(r *state.Record) {
			*r.Slot(g.Key) = state.Slot{Current: g.ID, RenewAt: start.Add(-time.Minute), Renewal: state.RenewalInfo{At: time.Date(start.Year(), start.Month(), start.Day(), 23, 30, 0, 0, time.Local), Start: start, End: start.Add(day)}}
		})
		at[w.look(bundle.EC256).RenewalTime(0, []schedule.Span{window})] = true
	}
	if len(at) < 2 {
		t.Errorf("all at %v", at)
	}
}

func TestInDanger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.look(bundle.EC256).InDanger(0) {
		t.Error("there is no certificate")
	}
	for left, danger := range map[time.Duration]bool{30 * day: false, 10 * day: false, 8 * day: true, -day: true} {
		g := w.add(w.sign(bundle.EC256, nil, left-90*day, left), "")
		w.current(g, g, none)
		if got := w.look(bundle.EC256).InDanger(0); got != danger {
			t.Errorf("%s of 90 days are left: %v", left, got)
		}
	}
}

func TestRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, g := w.good(bundle.EC256), w.good(bundle.EC256)
	w.current(g, g, old)
	w.check(w.lineage.SaveRevocation(old.ID, state.Revocation{Done: time.Now()}))
	if why := w.look(bundle.EC256).Revoked(bundle.EC256); why != "" {
		t.Errorf("an older one was revoked: %q", why)
	}
	for want, note := range map[string]state.Revocation{
		"it was revoked": {Done: time.Now(), KeyCompromised: true}, "its key must not be used any more": {KeyCompromised: true}, "its revocation has started": {Asked: time.Now()},
	} {
		w.check(w.lineage.SaveRevocation(g.ID, note))
		if why := w.look(bundle.EC256).Revoked(bundle.EC256); why != want {
			t.Errorf("%+v: %q, want %q", note, why, want)
		}
	}
}

// An order is in flight for exactly the wanted names, at one of the wanted CAs.
func TestInFlight(t *testing.T) {
	t.Parallel()
	const url = directory + "/order/7"
	placed := state.Order{URL: url, Directory: directory, Names: names, KeyType: bundle.EC256, Fresh: true}
	for _, tt := range []struct {
		what            string
		change          func(*state.Order)
		inFlight, fresh bool
	}{
		{"placed", func(*state.Order) {}, true, true},
		{"with a key that was in use", func(o *state.Order) { o.Fresh = false }, true, false},
		{"not placed", func(o *state.Order) { o.URL = "" }, false, false},
		{"for other names", func(o *state.Order) { o.Names = names[:1] }, false, false},
		{"for the names in another order", func(o *state.Order) { o.Names = []string{names[1], names[0], names[1]} }, true, true},
		{"at another CA", func(o *state.Order) { o.Directory = "https://other.example/directory" }, false, false},
		{"for another key type", func(o *state.Order) { o.KeyType = bundle.RSA2048 }, false, false},
	} {
		w := newWorld(t)
		order := placed
		tt.change(&order)
		w.check(w.lineage.SaveOrder(order))
		inFlight, fresh := w.look(bundle.EC256).InFlight(bundle.EC256, names, []string{"https://first.example/directory", directory})
		if inFlight != tt.inFlight || fresh != tt.fresh {
			t.Errorf("%s: in flight %v, fresh %v", tt.what, inFlight, fresh)
		}
	}
	if inFlight, fresh := newWorld(t).look(bundle.EC256).InFlight(bundle.EC256, names, []string{directory}); inFlight || fresh {
		t.Error("there is no order")
	}
}

// A key that was never in service is as good as a new one.
func TestKeyWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.sign(bundle.EC256, nil, -30*day, 60*day)
	old := w.add(b, "")
	sameKey, newKey := w.add(w.sign(bundle.EC256, b.Key(), -day, 90*day), ""), w.good(bundle.EC256)
	gone := state.Generation{ID: "20200101T000000000Z-00000000", Key: bundle.EC256}
	for _, tt := range []struct {
		what            string
		current, served state.Generation
		waits           bool
	}{
		{"nothing was served", old, none, true},
		{"it is served", old, old, false},
		{"another certificate with the same key is served", sameKey, old, false},
		{"another key is served", newKey, old, true},
		{"what is served is not stored any more", newKey, gone, false},
		{"what is current is not stored any more", gone, old, false},
	} {
		w.current(tt.current, tt.served, none)
		l, err := issued.Look(w.lineage, nil)
		w.check(err)
		if got := l.KeyWaits(bundle.EC256); got != tt.waits {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}

func TestSameNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b []string
		same bool
	}{
		{nil, nil, true}, {[]string{"a", "b"}, []string{"b", "a"}, true}, {[]string{"a", "a", "b"}, []string{"a", "b"}, true},
		{[]string{"a"}, []string{"a", "b"}, false}, {[]string{"a"}, nil, false}, {[]string{"*.a"}, []string{"a"}, false},
	} {
		if got := issued.SameNames(tt.a, tt.b); got != tt.same {
			t.Errorf("%q and %q: %v", tt.a, tt.b, got)
		}
	}
}

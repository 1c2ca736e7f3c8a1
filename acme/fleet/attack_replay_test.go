package fleet

import (
	"errors"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// An order that has become a certificate, and an account whose key was changed, are put back: no host adopts them.
func TestOldOrdersAndAccountsAreNotAdopted(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	s := w.stranger()
	const name = "mx.example"
	account := state.Account{Directory: "https://ca.example/directory", URL: "https://ca.example/account/1", Key: orderFor(t, name).Key, Created: time.Now().UTC()}
	must(t, state.New(a.Store()).SaveAccount(account))
	order := orderFor(t, name)
	lead := a.leads1(name)
	must(t, state.New(a.Store()).Lineage(name).SaveOrder(order))
	s.copy()
	must(t, state.New(a.Store()).Lineage(name).DropOrder(bundle.EC256))
	lead.Release()
	b.leads1(name).Release() // it has seen all that there was
	account.Key = orderFor(t, name).Key
	must(t, state.New(a.Store()).SaveAccount(account))
	b.leads1(name).Release()
	folder := folderOf(t, a)
	if got, _, err := state.New(b.disk).Account(account.Directory); err != nil || got.Key != account.Key {
		t.Fatalf("the other host has another account: %v", err)
	}

	for _, key := range []string{orderPlace(name, bundle.EC256), accountPlace(folder)} {
		s.put(key, s.archive[key][0])
	}
	for _, h := range []*host{a, b} {
		h.leads1(name).Release()
		if got, ok, err := state.New(h.disk).Lineage(name).Order(bundle.EC256); ok || err != nil {
			t.Errorf("%s has adopted the order %s, %v", h.set.Host, got.URL, err)
		}
		if got, _, err := state.New(h.disk).Account(account.Directory); err != nil || got.Key != account.Key {
			t.Errorf("%s has the old key of the account: %v", h.set.Host, err)
		}
	}
	if !a.hasFault("order/", Replayed) || !a.hasFault("account/", Replayed) && !b.hasFault("account/", Replayed) {
		t.Errorf("it is not reported: %v, %v", a.Health().Faults, b.Health().Faults)
	}
}

// shows makes a host known as Run does, once.
func (h *host) shows(name string, d Deployed) {
	h.t.Helper()
	must(h.t, h.enter(h.t.Context()))
	p := &part{m: h.Member}
	must(h.t, p.beat(h.t.Context()))
	must(h.t, p.beSeen(h.t.Context()))
	h.Note(name, d)
	must(h.t, h.Flush(h.t.Context()))
}

// sees returns what a host knows of the second one; nil if it does not count.
func (h *host) sees(name string) *Deployed {
	h.t.Helper()
	hosts, err := h.Hosts(h.t.Context(), name)
	must(h.t, err)
	for _, d := range hosts {
		if d.Host == "mx1" {
			return &d
		}
	}
	return nil
}

// A stranger removes what says that a host is there, and puts back that it was forgotten once: it still counts.
func TestAForgottenHostThatIsBackCannotBeForgottenAgain(t *testing.T) {
	w := newWorld(t, 3)
	a, b, c := w.host(0, ""), w.host(1, ""), w.host(2, "")
	s := w.stranger()
	const name = "mx.example"
	b.shows(name, Deployed{OnDisk: []string{"aa"}, Serving: []string{"aa"}, Certain: true})
	if a.sees(name) == nil || c.sees(name) == nil {
		t.Fatal("the host is not seen")
	}
	must(t, s.store.Remove("host/mx1/alive"))
	must(t, a.Forget(t.Context(), "mx1"))
	s.copy()
	if a.sees(name) != nil || c.sees(name) != nil {
		t.Fatal("the host is not forgotten")
	}
	b = w.host(1, b.dir)
	b.shows(name, Deployed{OnDisk: []string{"aa", "bb"}, Serving: []string{"aa"}, Certain: true})
	if a.sees(name) == nil || c.sees(name) == nil {
		t.Fatal("the host is not back")
	}
	must(t, s.store.Remove("host/mx1"))
	for _, key := range []string{"host/mx1/forgotten", "hosts"} {
		s.put(key, s.archive[key][0])
	}
	for _, h := range []*host{a, c, w.host(2, c.dir)} {
		if d := h.sees(name); d == nil || d.Alive || len(d.OnDisk) != 2 {
			t.Errorf("a stranger has made %s forget another host: %+v", h.set.Host, d)
		}
	}
}

// What a host said earlier is put back: what it has said since still counts.
func TestAnOldStatementOfAHostIsRefused(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	s := w.stranger()
	const name, place = "mx.example", "host/mx1/deployed/mx.example"
	b.shows(name, Deployed{OnDisk: []string{"aa", "bb"}, Certain: true})
	s.copy()
	b.shows(name, Deployed{OnDisk: []string{"bb"}, Certain: true})
	if d := a.sees(name); d == nil || len(d.OnDisk) != 1 {
		t.Fatalf("the host has said %+v", d)
	}
	s.put(place, s.archive[place][0])
	for _, h := range []*host{a, w.host(0, a.dir)} {
		if d := h.sees(name); d == nil || len(d.OnDisk) != 1 || !h.hasFault(place, Replayed) {
			t.Errorf("an old statement counts: %+v, %v", d, h.Health().Faults)
		}
	}
	// In the place of another host it says nothing either.
	s.put("host/mx0/deployed/"+name, s.archive[place][0])
	s.put(place, s.archive[place][0][:100])
	if d := a.sees(name); d == nil || len(d.OnDisk) != 1 || !a.hasFault(place, Truncated) {
		t.Errorf("a truncated statement counts: %+v, %v", d, a.Health().Faults)
	}
}

// A host was stolen and removed: with its identity a stranger can neither offer a certificate, nor read a new key, nor let anybody in, nor
// remove anybody; also after restarts, and if the statement of the removal is removed.
func TestARemovedHostIsAStranger(t *testing.T) {
	w := newWorld(t, 3)
	a, b := w.host(0, "").run(), w.host(1, "").run()
	s := w.stranger()
	const name = "mx.example"
	end := time.Now().Add(90 * 24 * time.Hour)
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
	}
	a.issues(name, end.Add(-time.Hour))
	thief := w.identities[2]
	s.identity = thief
	stolen := vault{fleet: "berlin", host: "mx2", identity: thief, trust: newTrust("berlin", thief.Recipient(), w.all)}
	if _, err := stolen.openBundle(s.get(bundlePlace(name, bundle.EC256)), name, bundle.EC256, 0); err != nil {
		t.Fatalf("the host cannot open the bundle before it is removed: %v", err)
	}
	s.copy()
	_, err := a.RemoveRecipient(t.Context(), thief.Recipient())
	must(t, err)
	eventually(t, "the other host knows", func() bool { return !b.trust.Load().trusts(thief.Recipient()) })
	newest := a.issues(name, end)
	eventually(t, "the other host has it", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == newest.Serial() })

	_, err = stolen.openBundle(s.get(bundlePlace(name, bundle.EC256)), name, bundle.EC256, 0)
	wantRefused(t, "the removed host opens a new key", err, NotForThisHost)
	removal := s.get(recipientKey(thief.Recipient()))
	guest, now := newIdentity(t).Recipient(), time.Now()
	letIn, err := stolen.trust.add(thief, guest, "evil", now)
	must(t, err)
	back, err := stolen.trust.add(thief, thief.Recipient(), "mx2", now)
	must(t, err)
	kick, err := stolen.trust.say(thief, w.all[0], "mx0", isRemoved, now)
	must(t, err)
	for _, statement := range []state.Versioned{letIn, back, kick} {
		s.put(statement.Key, statement.Value)
	}
	must(t, s.store.Remove("hosts")) // and other rubbish
	s.put(bundlePlace(name, bundle.EC256), s.forge(name, w.all))
	check := func(what string, h *host) {
		t.Helper()
		must(t, h.learnTrust(t.Context()))
		tr := h.trust.Load()
		if tr.trusts(guest) || tr.trusts(thief.Recipient()) || !tr.trusts(w.all[0]) || !tr.trusts(w.all[1]) {
			t.Errorf("%s: %s trusts %v", what, h.set.Host, tr.recipients())
		}
		if serial, err := h.take(name); serial != "" || !isRefused(err, Forged) {
			t.Errorf("%s: %s took %q, %v", what, h.set.Host, serial, err)
		}
	}
	check("in a command", w.host(0, a.dir))
	eventually(t, "the host refuses it", func() bool { _, err := b.take(name); return isRefused(err, Forged) })
	b.halt()
	b = w.host(1, b.dir)
	check("after a restart", b)
	if !b.hasFault(recipientKey(guest), Forged) || !b.hasFault(recipientKey(w.all[0]), Forged) || !b.hasFault(recipientKey(thief.Recipient()), Replayed) {
		t.Errorf("it is not reported: %v", b.Health().Faults)
	}
	if string(s.get(recipientKey(thief.Recipient()))) == string(removal) {
		t.Fatal("the removal is still there: nothing was attacked")
	}
	b.run() // it writes the removal again, so that hosts which join learn it
	eventually(t, "the removal is back", func() bool { return string(s.get(recipientKey(thief.Recipient()))) == string(removal) })
	if err := w.host(2, "").AddRecipient(t.Context(), guest, "evil"); err == nil {
		t.Log("the removed host may write, as far as etcd is concerned")
	}
	check("in the end", w.host(0, a.dir))
	var r *Refused
	if _, err := a.trust.Load().add(w.identities[0], thief.Recipient(), "mx2", now); !errors.As(err, &r) {
		t.Errorf("the removed host is let in again: %v", err)
	}
}

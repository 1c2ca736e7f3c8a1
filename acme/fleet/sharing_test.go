package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func accountFor(t testing.TB, url string) state.Account {
	t.Helper()
	o := orderFor(t, stormName)
	return state.Account{Directory: stormCA, URL: url, Key: o.Key, Created: time.Now().UTC().Truncate(time.Second)}
}

// The fleet has one account: hosts adopt it when they lead, a change by one reaches the others, and of two first ones only one is used.
func TestTheAccountIsShared(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		a, b, c := s.hosts[0].start(false), s.hosts[1].start(false), s.hosts[2].start(false)
		urlOf := func(m *Member) string {
			t.Helper()
			lead, err := m.Lead(t.Context(), stormName, Danger{})
			must(t, err)
			lead.Release()
			account, _, err := state.New(m.Store()).Account(stormCA)
			must(t, err)
			return account.URL + " " + account.Email + " " + account.NextKey
		}
		first := accountFor(t, "https://ca.example/account/1")
		must(t, state.New(a.Store()).SaveAccount(first))
		must(t, state.New(a.Store()).SaveAccount(first)) // the same once more
		if got := urlOf(b); got != first.URL+"  " {
			t.Errorf("the second host has %q", got)
		}
		own := accountFor(t, "https://ca.example/account/2")
		err := state.New(c.Store()).SaveAccount(own) // at the same time, on a third host
		e, ok := errors.AsType[*state.Error](err)
		if !ok || !e.Temporary() {
			t.Errorf("a second account: %v", err)
		}
		if got := urlOf(c); got != first.URL+"  " {
			t.Errorf("the third host has %q", got)
		}
		first.NextKey = accountFor(t, "").Key // it gets another key
		must(t, state.New(b.Store()).SaveAccount(first))
		if got := urlOf(a); got != first.URL+"  "+first.NextKey {
			t.Errorf("the first host does not know the next key: %q", got)
		}
		s.hosts[0].weather.force("fails")
		first.Email = "postmaster@example"
		must(t, state.New(a.Store()).SaveAccount(first)) // the store is away
		s.hosts[0].weather.force("")
		a = s.hosts[0].start(false)
		urlOf(a)
		if got := urlOf(c); got != first.URL+" postmaster@example "+first.NextKey {
			t.Errorf("what changed while the store was away: %q", got)
		}
		old := s.store.snapshot()
		first.Email = "other@example"
		must(t, state.New(a.Store()).SaveAccount(first))
		s.store.restore(old)
		if got := urlOf(a); got != first.URL+" other@example "+first.NextKey {
			t.Errorf("an old account came back: %q", got)
		}
		if got := urlOf(c); got != first.URL+" other@example "+first.NextKey {
			t.Errorf("and reached another host: %q", got)
		}
	})
}

// A host that had an account of its own before it joined keeps it aside.
func TestAnAccountOfBefore(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		p := s.hosts[1].disk.process()
		must(t, state.New(p).SaveAccount(accountFor(t, "https://ca.example/account/9")))
		a, b := s.hosts[0].start(false), s.hosts[1].start(false)
		must(t, state.New(a.Store()).SaveAccount(accountFor(t, "https://ca.example/account/1")))
		lead, err := b.Lead(t.Context(), stormName, Danger{})
		must(t, err)
		lead.Release()
		account, _, err := state.New(b.Store()).Account(stormCA)
		must(t, err)
		accounts, err := p.List("accounts")
		must(t, err)
		files, err := p.List("accounts/" + accounts[0][:len(accounts[0])-1])
		must(t, err)
		if account.URL != "https://ca.example/account/1" || len(files) != 2 {
			t.Errorf("%s, %q", account.URL, files)
		}
	})
}

// Names that other hosts want are merged, with who wants them; a host that says the same again wakes nobody; one that is forgotten counts no more.
func TestHostsAndTheirWishes(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		a, b, c := s.hosts[0].start(true), s.hosts[1].start(true), s.hosts[2].start(false)
		wish := func(names ...string) Wish { return Wish{Names: names, Keys: []bundle.KeyType{bundle.EC256}} }
		a.Merge(t.Context(), stormName, wish("a.example", stormName))
		b.Merge(t.Context(), stormName, Wish{Names: []string{stormName}, Optional: []string{"b.example", "a.example"}})
		c.Merge(t.Context(), stormName, wish("c.example"))
		must(t, c.Flush(t.Context()))
		time.Sleep(time.Minute)
		merged := a.Merge(t.Context(), stormName, wish("a.example", stormName))
		if got := fmt.Sprint(merged.Names, merged.Optional, merged.By); got != "[a.example mx.example c.example] [b.example] map[b.example:[mx1] c.example:[mx2]]" {
			t.Error(got)
		}
		asked := func() int { s.store.mu.Lock(); defer s.store.mu.Unlock(); return s.store.asked }
		before, written := asked(), s.store.revision
		a.Merge(t.Context(), stormName, wish("a.example", stormName))
		_, err := a.Hosts(t.Context(), stormName)
		must(t, err)
		a.takes0(t)
		if asked() != before || s.store.revision != written {
			t.Errorf("a pass of the daemon has asked the store %d times", asked()-before)
		}
		b.Note(stormName, Deployed{OnDisk: []string{"k1", "k2"}, Certain: true})
		time.Sleep(time.Minute)
		hosts, _ := a.Hosts(t.Context(), stormName)
		i := slices.IndexFunc(hosts, func(d Deployed) bool { return d.Host == "mx1" })
		if i < 0 || !hosts[i].Alive || len(hosts[i].OnDisk) != 2 {
			t.Fatalf("%+v", hosts)
		}
		written = s.store.revision
		b.Note(stormName, Deployed{OnDisk: []string{"k2", "k1"}, Certain: true})
		time.Sleep(20 * time.Second)
		if s.store.revision != written {
			t.Error("what was said again was written")
		}
		isRefusal(t, "a host at work", a.Forget(t.Context(), "mx1"))
		a.cannotForget(t, "mx1", "is at work")
		isRefusal(t, "itself", a.Forget(t.Context(), "mx0"))
		must(t, a.Forget(t.Context(), "mx2"))
		ctx, stop := context.WithCancel(t.Context())
		d := s.hosts[2].start(false)
		ended := make(chan struct{})
		go func() { defer close(ended); d.Run(ctx, func([]string) {}) }()
		time.Sleep(time.Minute)
		isRefusal(t, "a third host at work", a.Forget(t.Context(), "mx2"))
		stop()
		<-ended
		must(t, a.Forget(t.Context(), "mx2")) // at once, after an orderly end
		time.Sleep(5 * time.Minute)
		hosts, _ = a.Hosts(t.Context(), stormName)
		if slices.ContainsFunc(hosts, func(d Deployed) bool { return d.Host == "mx2" }) {
			t.Errorf("it is not forgotten: %+v", hosts)
		}
		c.Note(stormName, Deployed{OnDisk: []string{"k3"}})
		must(t, c.Flush(t.Context()))
		s.hosts[2].start(true).Note(stormName, Deployed{OnDisk: []string{"k3"}})
		time.Sleep(5 * time.Minute)
		hosts, _ = a.Hosts(t.Context(), stormName)
		if !slices.ContainsFunc(hosts, func(d Deployed) bool { return d.Host == "mx2" && d.Alive }) {
			t.Errorf("it is back, and not there: %+v", hosts)
		}
	})
}

// cannotForget checks that a host is refused with the same text, which says when it can be forgotten, by whoever looks and by whoever acts.
func (m *Member) cannotForget(t *testing.T, host, why string) {
	t.Helper()
	overview, err := m.Overview(t.Context())
	must(t, err)
	i := slices.IndexFunc(overview.Hosts, func(h HostInfo) bool { return h.Host == host })
	if i < 0 {
		t.Fatalf("%s is unknown: %+v", host, overview.Hosts)
	}
	seen := overview.Hosts[i].Forgettable(time.Now())
	acts := m.Forget(t.Context(), host)
	until := time.Now().Add(4 * time.Minute).UTC().Format("15:04 UTC")
	for _, err := range []error{seen, acts} {
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(hintOf(err), "at the latest (at "+until+" if it stops now)") {
			t.Errorf("%v; %s", err, hintOf(err))
		}
	}
}

// takes0 looks for something new, and expects nothing.
func (m *Member) takes0(t *testing.T) {
	t.Helper()
	if s, err := m.Take(t.Context(), stormName, bundle.EC256); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

func isRefusal(t *testing.T, what string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*Refusal](err); !ok {
		t.Errorf("%s: %v", what, err)
	}
}

// A host that is away counts as such, and as long as it is not forgotten; also if the store was lost meanwhile.
func TestAHostThatIsAway(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		forget := func(set *Settings) { set.Forget = 4 * time.Hour }
		a, b := s.hosts[0].start(true, forget), s.hosts[1].start(true, forget)
		b.Note(stormName, Deployed{Serving: []string{"old"}, OnDisk: []string{"old"}, Certain: true})
		a.Note(stormName, Deployed{OnDisk: []string{"old"}})
		time.Sleep(time.Minute)
		s.hosts[1].weather.force("fails")
		time.Sleep(5 * time.Minute)
		isAway := func(when string, listed bool) {
			t.Helper()
			hosts, err := a.Hosts(t.Context(), stormName)
			must(t, err)
			i := slices.IndexFunc(hosts, func(d Deployed) bool { return d.Host == "mx1" })
			if listed != (i >= 0) || i >= 0 && (hosts[i].Alive || len(hosts[i].Serving) != 1 || hosts[i].Seen.IsZero()) {
				t.Errorf("%s: %+v", when, hosts)
			}
		}
		isAway("after five minutes", true)
		s.store.wipe()
		time.Sleep(5 * time.Minute)
		isAway("after the store was lost", true)
		time.Sleep(90 * time.Minute)
		isAway("shortly before it is forgotten", true)
		time.Sleep(200 * time.Minute)
		isAway("afterwards", false)
	})
}

// A revocation reaches the other hosts: a revoked certificate is not taken.
func TestARevocationReachesTheOthers(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(true), s.hosts[1].start(true)
		s.hosts[1].takes(b)
		revoked := s.hosts[0].orders(a, 30*24*time.Hour)
		a.Revoke(stormName, revoked.Serial(), revoked.SPKI(), state.Revocation{Version: 1, Reason: "keyCompromise", KeyCompromised: true})
		time.Sleep(time.Minute)
		if got := s.hosts[1].takes(b); got != "" {
			t.Errorf("it took %s", got)
		}
		if list := b.Revocations(stormName); len(list) != 1 || list[0].SPKI != revoked.SPKI() || list[0].Host != "mx0" || !list[0].Revocation.KeyCompromised {
			t.Errorf("%+v", list)
		}
		next := s.hosts[0].orders(a, 20*24*time.Hour)
		time.Sleep(time.Second)
		if got := s.hosts[1].takes(b); got != next.Serial() {
			t.Errorf("it has %s, want %s", got, next.Serial())
		}
	})
}

// A new host reads secrets after its recipient was added; one that is removed reads no new ones, and what it signs counts no more.
func TestRecipientsComeAndGo(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		two := s.hosts[0].all[:2]
		only := func(set *Settings) { set.Recipients = two }
		a, b := s.hosts[0].start(false, only), s.hosts[1].start(false, only)
		first := s.hosts[0].orders(a, 30*24*time.Hour)
		s.hosts[1].takes(b)
		c := s.hosts[2].start(false, only)
		if _, err := c.Take(t.Context(), stormName, bundle.EC256); !isRefused(err, NotForThisHost) {
			t.Errorf("before it was added: %v", err)
		}
		must(t, a.AddRecipient(t.Context(), s.hosts[2].identity.Recipient(), "mx2"))
		if got := s.hosts[2].takes(c); got != first.Serial() {
			t.Errorf("after it was added it has %q; %v", got, c.Health())
		}
		second := s.hosts[2].orders(c, 40*24*time.Hour)
		b = s.hosts[1].start(false, only)
		if got := s.hosts[1].takes(b); got != second.Serial() {
			t.Errorf("of a host that was added, another takes %q", got)
		}
		changed, err := a.RemoveRecipient(t.Context(), s.hosts[2].identity.Recipient())
		must(t, err)
		if !slices.Contains(changed, bundlePlace(stormName, bundle.EC256)) {
			t.Errorf("encrypted anew: %q", changed)
		}
		s.hosts[2].disk.files = map[string][]byte{} // it comes back as a new host
		c = s.hosts[2].start(false, only)
		if s, err := c.Take(t.Context(), stormName, bundle.EC256); s != nil || err == nil {
			t.Errorf("after it was removed it reads %v, %v", s, err)
		}
		isRefusal(t, "itself", func() error { _, err := a.RemoveRecipient(t.Context(), a.set.Identity.Recipient()); return err }())
		overview, err := a.Overview(t.Context())
		must(t, err)
		if len(overview.Certificates) != 1 || overview.Certificates[0].Serial != second.Serial() || overview.Certificates[0].Generation != 2 {
			t.Errorf("%+v", overview)
		}
		if !slices.ContainsFunc(overview.Recipients, func(r Trust) bool { return r.State == isRemoved && r.Host == "mx2" }) {
			t.Errorf("%+v", overview.Recipients)
		}
	})
}

package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// clockTown is a fleet on a real etcd whose hosts do not agree about the time. Time passes on all clocks when the test says so, that of the CA included;
// etcd has a clock of its own.
type clockTown struct {
	*world
	ca     *fakeCA
	passed atomic.Int64 // nanoseconds
	hosts  []*clockHost
}

// clockHost is a host whose clock is ahead by skew.
type clockHost struct {
	*host
	town *clockTown
	i    int
	skew time.Duration
}

const (
	clockLife = time.Hour        // of a certificate
	clockLeft = 20 * time.Minute // when it is due
)

func newClockTown(t *testing.T, trusted int, skews ...time.Duration) *clockTown {
	t.Helper()
	c := &clockTown{world: newWorld(t, len(skews)), ca: &fakeCA{t: t, life: clockLife, orders: map[string]*caOrder{}}}
	all := c.all
	for i, skew := range skews {
		c.all = all // the last ones know all
		if i < trusted {
			c.all = all[:trusted]
		}
		h := &clockHost{town: c, i: i, skew: skew}
		h.host = c.host(i, "", h.clock)
		c.hosts = append(c.hosts, h)
	}
	return c
}

func (c *clockTown) pass(d time.Duration) {
	c.passed.Add(int64(d))
	c.ca.mu.Lock()
	defer c.ca.mu.Unlock()
	c.ca.life += d
}

func (h *clockHost) clock(set *Settings) {
	set.Now = func() time.Time { return time.Now().Add(time.Duration(h.town.passed.Load()) + h.skew) }
	set.Recipients = slices.Clone(h.town.all)
	if h.host != nil {
		set.Recipients = h.set.Recipients
	}
}

// again starts the next process of the host, with Run.
func (h *clockHost) again() {
	h.halt()
	h.host = h.town.host(h.i, h.dir, h.clock, func(set *Settings) { set.Session = random() })
	h.run()
}

// command is a process of a command, which asks the store itself.
func (h *clockHost) command() *host { return h.town.host(h.i, h.dir, h.clock) }

func (h *clockHost) lineage() *state.Lineage { return state.New(h.Store()).Lineage(stormName) }

// has returns the certificate of this host; nil if there is none.
func (h *clockHost) has() (*bundle.Bundle, state.Generation) {
	record, _, err := h.lineage().Load()
	must(h.t, err)
	id := record.Slot(bundle.EC256).Current
	if id == "" {
		return nil, state.Generation{}
	}
	g, err := h.lineage().Generation(id)
	must(h.t, err)
	b, err := h.lineage().Bundle(id)
	must(h.t, err)
	return b, g
}

func (h *clockHost) due() bool {
	b, _ := h.has()
	return b == nil || b.NotAfter().Sub(h.now()) < clockLeft
}

// keep stores a bundle by the clock of this host.
func (h *clockHost) keep(b *bundle.Bundle, order string) {
	h.t.Helper()
	l := h.lineage()
	g, err := l.Add(b, b.Leaf().DNSNames, stormCA, order, h.now())
	must(h.t, err)
	record, _, err := l.Load()
	must(h.t, err)
	record.Slot(bundle.EC256).Issued(g.ID, h.now())
	must(h.t, l.Save(record))
}

// takes takes what the fleet has, as a pass does.
func (h *clockHost) takes() {
	h.t.Helper()
	s, err := h.Take(h.t.Context(), stormName, bundle.EC256)
	if must(h.t, err); s == nil {
		return
	}
	h.keep(s.Bundle, s.Order)
	must(h.t, h.Taken(stormName, bundle.EC256, s))
}

// makes is a pass: what package pass does with a fleet, in short. It dies after it has placed an order if told to.
func (h *clockHost) makes(force, dies bool) {
	h.t.Helper()
	h.Merge(h.t.Context(), stormName, Wish{Names: []string{h.set.Host + ".example"}, Keys: ec()})
	h.takes()
	_, inFlight, err := h.lineage().Order(bundle.EC256)
	if must(h.t, err); force || inFlight || h.due() {
		if h.orders(force, dies); dies {
			return
		}
	}
	b, g := h.has()
	if b == nil {
		return
	}
	h.Note(stormName, Deployed{Wish: Wish{Names: []string{h.set.Host + ".example"}, Keys: ec()}, OnDisk: []string{b.SPKI()}, Serving: []string{b.SPKI()}, Certain: true,
		Keys: map[string]Deployment{"ec256": {Serial: b.Serial(), NotAfter: b.NotAfter(), Served: b.Serial(), At: h.now()}}})
	must(h.t, h.Offer(h.t.Context(), nil, stormName, g, b))
}

func (h *clockHost) orders(force, dies bool) {
	h.t.Helper()
	lead := h.leads1(stormName)
	defer lead.Release()
	h.takes()
	order, resumes, err := h.lineage().Order(bundle.EC256)
	if must(h.t, err); !force && !resumes && !h.due() {
		return
	}
	var b *bundle.Bundle
	for b == nil {
		if !resumes {
			order = orderFor(h.t, stormName)
			order.URL, order.Created = h.town.ca.order(stormName, h.set.Host, true).url, h.now()
			must(h.t, h.lineage().SaveOrder(order))
			h.town.ca.stored(h.town.ca.orders[order.URL], nil)
			must(h.t, state.New(h.Store()).ChangeUsage(h.t.Context(), stormCA, func(u *state.Usage) error {
				u.Ledger.Place(h.now(), schedule.Purchase{Names: []string{stormName}, Key: "ec256"})
				return nil
			}))
		}
		if dies {
			lead.lose()
			return
		}
		b, err = h.town.ca.finish(order.URL, order.Key)
		if resumes = false; errors.Is(err, errInvalidOrder) {
			must(h.t, h.lineage().DropOrder(bundle.EC256))
			continue
		}
		must(h.t, err)
	}
	h.keep(b, order.URL)
	must(h.t, h.lineage().DropOrder(bundle.EC256))
	_, g := h.has()
	must(h.t, h.Offer(h.t.Context(), lead, stormName, g, b))
}

// settles has all hosts make passes until they have the newest certificate, and checks that so many orders were placed, that nobody refuses anything,
// and that nobody is shown as away, or as seen in the future.
func (c *clockTown) settles(what string, placed int, hosts ...*clockHost) {
	c.t.Helper()
	eventually(c.t, what, func() bool {
		serials := map[string]bool{}
		for _, h := range hosts {
			h.makes(false, false)
			b, _ := h.has()
			serials[b.Serial()] = true
		}
		return len(serials) == 1
	})
	if c.ca.placed != placed || len(c.ca.violations) > 0 {
		c.t.Fatalf("%s: %d orders, want %d, %q", what, c.ca.placed, placed, c.ca.violations)
	}
	for _, h := range hosts {
		if health := h.Health(); !health.Up || len(health.Faults) > 0 {
			c.t.Errorf("%s: %s: %+v", what, h.set.Host, health)
		}
		var list []Deployed
		eventually(c.t, what+": "+h.set.Host+" has heard of all", func() bool {
			var err error
			list, err = h.command().Hosts(c.t.Context(), stormName)
			return err == nil && len(list) == len(hosts)
		})
		for _, d := range list {
			if age := h.now().Sub(d.Seen); !d.Alive || age < -time.Second || age > time.Minute {
				c.t.Errorf("%s: for %s, %s is alive %t, and was seen %s ago", what, h.set.Host, d.Host, d.Alive, age)
			}
		}
	}
}

// The clocks of three hosts are 5 and 10 minutes apart. Whatever they do, nobody orders twice, nobody refuses what another one says, nobody is shown as
// away, and all have the newest certificate.
func TestClocksFiveMinutesApart(t *testing.T) {
	c := newClockTown(t, 3, -5*time.Minute, 0, 5*time.Minute, -5*time.Minute)
	slow, right, fast, guest := c.hosts[0], c.hosts[1], c.hosts[2], c.hosts[3]
	three := c.hosts[:3]
	var begin sync.WaitGroup
	for _, h := range three {
		h.again()
		begin.Go(func() { h.makes(false, false) })
	}
	begin.Wait()
	c.settles("the first order", 1, three...)

	c.pass(clockLife - clockLeft - 2*time.Minute)
	c.settles("a renewal", 2, three...) // due on the fast one only

	// The holder dies after the CA has taken its order; the next host to whom the certificate is due goes on with it, and the first takes it.
	c.pass(clockLife - clockLeft - 2*time.Minute)
	fast.makes(false, true)
	c.pass(5 * time.Minute)
	right.makes(false, false)
	fast.again()
	c.settles("a holder that dies", 3, three...)
	slow.makes(true, true)
	fast.makes(true, false)
	slow.again()
	c.settles("a holder that dies, and is behind", 4, three...)
	// The same, and the CA does not know the order any more: it is replaced, and who began it does not go on with it.
	for i, pair := range [][2]*clockHost{{fast, right}, {slow, fast}} {
		pair[0].makes(true, true)
		for url := range c.ca.orders {
			delete(c.ca.orders, url)
		}
		pair[1].makes(true, false)
		pair[0].again()
		c.settles(fmt.Sprint("an order that is replaced ", i), 6+2*i, three...)
	}
	var usage state.Usage
	must(t, state.New(slow.Store()).ChangeUsage(t.Context(), stormCA, func(u *state.Usage) error { usage = *u; return nil }))
	if n := len(usage.Ledger.Orders); n != c.ca.placed {
		t.Errorf("%d orders are noted, and %d were placed", n, c.ca.placed)
	}
	c.keys(three...)
	c.guest(fast, slow, guest)
	c.forgets(right, slow, fast)
}

// keys has hosts say which keys they serve, and share the next one.
func (c *clockTown) keys(hosts ...*clockHost) {
	c.t.Helper()
	pem, spki := newKey(c.t)
	for _, h := range hosts {
		b, _ := h.has()
		text, err := json.Marshal(map[string]any{"host": h.set.Host, "serves": []string{b.SPKI()}})
		must(c.t, err)
		must(c.t, h.Keys(stormName).Say(c.t.Context(), h.now().UnixNano(), text))
		must(c.t, h.Keys(stormName).Change(c.t.Context(), func(text []byte, _ map[string]time.Time) ([]byte, error) {
			var list []string
			_ = json.Unmarshal(text, &list)
			return json.Marshal(append(list, h.set.Host))
		}))
	}
	must(c.t, hosts[0].Keys(stormName).Offer(c.t.Context(), bundle.EC256, NextKey{SPKI: spki, Generation: 1, PEM: pem}))
	for _, h := range hosts {
		s, err := h.Keys(stormName).Look(c.t.Context(), ec())
		must(c.t, err)
		away := slices.ContainsFunc(s.Hosts, func(h HostSays) bool { return !h.Alive || !h.Member || h.Text == nil })
		if len(s.Hosts) != len(hosts) || away || len(s.Refused) > 0 || s.Next[bundle.EC256].SPKI != spki || string(s.Together) != `["mx0","mx1","mx2"]` {
			c.t.Errorf("%s sees %+v", h.set.Host, s)
		}
	}
}

// guest lets a host join by the one whose clock is ahead, and removes it by the one whose clock is behind: the removal wins, though its time is before
// that of the addition.
func (c *clockTown) guest(fast, slow, guest *clockHost) {
	c.t.Helper()
	placed := c.ca.placed
	must(c.t, fast.AddRecipient(c.t.Context(), guest.set.Identity.Recipient(), guest.set.Host))
	guest.again()
	c.settles("a guest", placed, c.hosts...)
	guest.halt()
	_, err := slow.RemoveRecipient(c.t.Context(), guest.set.Identity.Recipient())
	must(c.t, err)
	for _, h := range c.hosts[:3] {
		eventually(c.t, h.set.Host+" knows that the guest has left", func() bool { return !h.trust.Load().trusts(guest.set.Identity.Recipient()) })
	}
	if err := guest.command().Join(c.t.Context()); !errors.Is(err, state.ErrAway) {
		c.t.Errorf("the guest that was removed: %v", err)
	}
	must(c.t, slow.Forget(c.t.Context(), guest.set.Host))
	slow.makes(true, false)
	c.settles("without the guest", placed+1, c.hosts[:3]...)
}

// forgets has a host forgotten, come back, and forgotten again by one whose clock is behind that of the first.
func (c *clockTown) forgets(first, second, gone *clockHost) {
	c.t.Helper()
	wants := func(h *clockHost) bool {
		return slices.Contains(h.command().Merge(c.t.Context(), stormName, Wish{}).Names, gone.set.Host+".example")
	}
	for _, by := range []*clockHost{first, second} {
		gone.makes(false, false)
		must(c.t, gone.command().Flush(c.t.Context()))
		gone.halt()
		must(c.t, by.ForgetTLSA(c.t.Context(), gone.set.Host))
		must(c.t, by.Forget(c.t.Context(), gone.set.Host))
		for _, h := range []*clockHost{first, second} {
			if wants(h) {
				c.t.Errorf("%s has not forgotten what %s wants", h.set.Host, gone.set.Host)
			}
			if s, err := h.Keys(stormName).Look(c.t.Context(), ec()); err != nil || len(s.Hosts) != 2 || s.Forgotten[gone.set.Host].IsZero() {
				c.t.Errorf("%s sees %+v, %v", h.set.Host, s, err)
			}
		}
		gone.again()
		c.settles("a host that was forgotten is back", c.ca.placed, c.hosts[:3]...)
		if !wants(first) || !wants(second) {
			c.t.Errorf("what %s wants is forgotten though it is back", gone.set.Host)
		}
		b, _ := gone.has()
		must(c.t, gone.Keys(stormName).Say(c.t.Context(), gone.now().UnixNano(), fmt.Appendf(nil, "{%q: %q}", "host", b.SPKI())))
	}
}

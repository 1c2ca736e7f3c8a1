package daemon

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state/etcd"
	"mxcert/deploy/served"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// writeTo writes a file below the host's directory.
func (h *host) writeTo(name, text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path(name), []byte(text), 0o600))
}

// shown is the serial number that the mail server shows; "" if it shows none.
func (h *host) shown() string {
	probe := served.Probe{Address: h.SMTP.Address(), ServerName: "mx.example.org", Key: string(bundle.EC256), Times: 1}
	return served.Await(h.t.Context(), []served.Probe{probe}, 0, time.Second, func(served.Result) bool { return true })[0].Serial
}

// Three daemons that start at once get one certificate; a renewal that one of them is asked for is served by all, without anybody waiting for
// an hour; and each says how its fleet is.
func TestFleet(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2", "mx3")
	var daemons []*running
	for _, h := range c.hosts {
		daemons = append(daemons, h.daemon())
	}
	first := c.awaitOther(t, "")
	if n := c.world.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
	for _, d := range daemons {
		d.rest() // as after ten seconds without a pass: it leaves no fleet
	}
	got := c.hosts[1].asked(report.CodeOK, Order{Force: true})
	if second := c.awaitOther(t, first); second != got.Keys[0].Serial || c.world.placed() != 2 {
		t.Errorf("%s is served, %s was issued, %d orders", second, got.Keys[0].Serial, c.world.placed())
	}
	for i, d := range daemons {
		eventually(t, "the health of the fleet", func() bool { return d.current().member.Health().Up })
		if took := d.stop(); took > 30*time.Second {
			t.Errorf("the daemon of mx%d ends after %s", i+1, took)
		}
		if d.log.count("certificate issued") > 2 || d.log.has("panic") {
			t.Errorf("the log of mx%d:\n%s", i+1, d.log)
		}
	}
	if events := c.hosts[0].events("taken") + c.hosts[2].events("taken"); events < 2 {
		t.Errorf("%d were taken", events)
	}
}

// A reload that leaves the settings of the fleet as they are keeps the membership; other settings are another one, and without them there is
// none. The old one ends.
func TestFleetReload(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1")
	h := c.hosts[0]
	d := h.daemon()
	c.awaitOther(t, "")
	first := d.current().member
	h.write(h.text() + "# a comment\n")
	eventually(t, "the reload", func() bool { return d.current().runner.Host.Fingerprint == h.wants().Fingerprint })
	if d.current().member != first {
		t.Error("a comment has changed the membership")
	}
	h.edit("fleet:\n", "fleet:\n  forget: 20d\n")
	eventually(t, "another membership", func() bool { m := d.current().member; return m != first && m != nil })
	eventually(t, "the end of the first", func() bool {
		select {
		case <-first.ended:
			return true
		default:
			return false
		}
	})
	second := d.current().member
	text := h.text()
	h.write(text[:strings.Index(text, "fleet:")])
	eventually(t, "no membership", func() bool { return d.current().member == nil })
	eventually(t, "the end of the second", func() bool {
		select {
		case <-second.ended:
			return true
		default:
			return false
		}
	})
	if d.stop(); c.world.placed() != 1 {
		t.Errorf("%d orders", c.world.placed())
	}
}

// A daemon whose store hangs starts, repairs what it serves, says that the store is away, and ends in time.
func TestFleetHangs(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1")
	h := c.hosts[0]
	d := h.daemon()
	serial := c.awaitOther(t, "")
	d.stop()
	c.etcd.Members[0].Pause()
	d = h.again()
	h.writeTo("tls/mx.crt", "lost")
	eventually(t, "the repair", func() bool { return h.shown() == serial })
	eventually(t, "the health", func() bool { health := d.current().member.Health(); return !health.Up && !health.Since.IsZero() })
	d.awaitLog("the store of the fleet cannot be used; mail is served as before")
	if took := d.stop(); took > 30*time.Second {
		t.Errorf("the daemon ends after %s", took)
	}
	if c.world.placed() != 1 {
		t.Errorf("%d orders", c.world.placed())
	}
}

// A value that is refused is one line of the log, also if another one follows.
func TestFleetRefusesOnce(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1")
	d := c.hosts[0].daemon()
	c.awaitOther(t, "")
	stranger, err := etcd.Open(etcd.Settings{Endpoints: c.etcd.Endpoints(), Prefix: "/mxcert/v1/berlin/", Holder: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for i, key := range []string{"recipient/garbage1", "recipient/garbage2"} {
		if err := stranger.Replace(key, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
		eventually(t, key+" is refused", func() bool { return len(d.current().member.Health().Faults) == i+1 })
		eventually(t, key+" is logged", func() bool { return strings.Contains(d.log.String(), key) })
	}
	d.stop()
	for _, key := range []string{"recipient/garbage1", "recipient/garbage2"} {
		if n := strings.Count(d.log.String(), key+" in the store of the fleet is refused"); n != 1 {
			t.Errorf("%s is in the log %d times:\n%s", key, n, d.log)
		}
	}
}

// What a host has ordered while the store went away reaches the others when the store is back, without anybody waiting for the next pass. No
// second order is placed for it.
func TestFleetOfferedLater(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	var daemons []*running
	for _, h := range c.hosts {
		daemons = append(daemons, h.daemon())
	}
	c.awaitOther(t, "")
	time.Sleep(1100 * time.Millisecond) // the CA counts in seconds, and the new certificate has to end later
	var once sync.Once
	r, err := c.hosts[0].asks(t.Context(), Order{Force: true}, func(_, stage, _ string) {
		if stage == "certificate" {
			once.Do(c.etcd.Members[0].Pause)
		}
	})
	if err != nil || r.Certificates[0].Code != report.CodeOK {
		t.Fatalf("%v, %+v", err, r)
	}
	got := r.Certificates[0].Keys[0].Serial
	if c.hosts[0].shown() != got || c.hosts[1].shown() == got {
		t.Fatal("the store did not go away in time")
	}
	c.etcd.Members[0].Resume()
	eventually(t, "the other host serves it", func() bool { return c.hosts[1].shown() == got })
	if n := c.world.placed(); n != 2 {
		t.Errorf("%d orders", n)
	}
	for _, d := range daemons {
		if took := d.stop(); took > 30*time.Second {
			t.Errorf("a daemon ends after %s", took)
		}
	}
}

// Without a fleet there is no membership.
func TestNoFleet(t *testing.T) {
	t.Parallel()
	d, _ := desert(t).atRest()
	d.attend(context.Background(), d.current().member)
	if d.member != nil || d.current().runner.Fleet != nil || d.current().runner.Leave != nil {
		t.Errorf("%+v", d.member)
	}
}

// Few hosts begin at once; many spread over up to a minute.
func TestSpread(t *testing.T) {
	t.Parallel()
	for hosts, most := range map[int]time.Duration{0: 0, 3: 0, fewHosts: 0, 21: 1260 * time.Millisecond, 1000: time.Minute, 1 << 40: time.Minute} {
		var drawn []time.Duration
		for range 200 {
			drawn = append(drawn, spread(hosts))
		}
		if longest := slices.Max(drawn); longest > most || most > 0 && longest < most/2 {
			t.Errorf("%d hosts: up to %s, want up to %s", hosts, longest, most)
		}
	}
	m := &membership{woken: map[string]time.Time{}}
	now := time.Now()
	if one, two := m.wake("mx", 3, now), m.wake("mx", 3, now); !one.Equal(now) || two.Sub(one) != wakesApart {
		t.Errorf("%s, %s", one, two)
	}
}

// What hosts write while the first pass over a certificate is running is not lost.
func TestWokenBeforeItSleeps(t *testing.T) {
	t.Parallel()
	w := newWorkload(&pass.Runner{}, nil)
	defer w.end()
	w.sooner("mx", time.Now())
	made := make(chan struct{})
	w.later("mx", time.Now().Add(time.Hour), func(bool) { close(made) })
	<-made
}

// What people are told of the store's health.
func TestHealthFindings(t *testing.T) {
	t.Parallel()
	if list := healthFindings("berlin", fleet.Health{Up: true, Since: time.Now()}); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	list := healthFindings("berlin", fleet.Health{Since: time.Now(), Reason: "no quorum", Hint: "start members", Faults: []string{"a key is forged"}})
	if len(list) != 2 || list[0].ID != "fleet-away" || !strings.Contains(list[0].Message, "no quorum") || list[0].Hint != "start members" || list[1].ID != "fleet-fault" || list[1].Message != "a key is forged" {
		t.Errorf("%+v", list)
	}
}

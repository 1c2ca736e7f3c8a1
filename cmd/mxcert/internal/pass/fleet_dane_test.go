package pass

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// A whole rollover on three hosts, one of which is away in the middle: the others change their key, the old record stays, renewals go on, and an
// operator forgets the host. At each moment, what a host serves is in every set that a sender may have.
func TestFleetRollover(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2", "mx3")
	c.round(c.hosts...)
	watch := c.watch()
	c.steady(c.hosts...)
	first, next := c.hosts[0].spki(), c.hosts[0].next()
	for _, h := range c.hosts {
		want := []string{first, next}
		if slices.Sort(want); !slices.Equal(h.keys(), want) || h.next() != next {
			t.Fatalf("%s: the zone has %q, want %q; its next key is %s", h.name, h.keys(), want, h.next())
		}
	}
	here, gone := c.hosts[:2], c.hosts[2]
	c.goes(gone)
	c.hosts[0].pass(report.CodeOK, rollNow())
	held := c.until("the key is changed, and the removal is held", here, func(all []report.Certificate) bool {
		return here[0].spki() == next && here[1].spki() == next && strings.Contains(all[0].TLSA.WaitingFor, "mx3 is away") && strings.Contains(all[1].TLSA.WaitingFor, "mx3 is away")
	})
	if !strings.Contains(held[0].TLSA.WaitingFor, "mxcert fleet forget mx3") {
		t.Errorf("it says %q", held[0].TLSA.WaitingFor)
	}
	time.Sleep(4 * gone.ttl)
	c.round(here...)
	if gone.spki() != first || !slices.Contains(gone.keys(), first) {
		t.Fatalf("mx3 serves %s, and the zone has %q", gone.spki(), gone.keys())
	}
	placed := c.placed()
	here[1].pass(report.CodeOK, atOnce) // a renewal
	if here[1].spki() != next || c.placed() != placed+1 {
		t.Errorf("%d orders, the key is %s", c.placed()-placed, here[1].spki())
	}
	c.world.check(here[0].member.Forget(t.Context(), "mx3"))
	c.world.check(here[0].member.ForgetTLSA(t.Context(), "mx3"))
	watch()
	c.world.check(gone.daneHost.SMTP.Close())
	c.until("the old record goes, and the next key comes", here, func([]report.Certificate) bool {
		return !slices.Contains(here[0].keys(), first) && len(here[0].keys()) == 2
	})
}

// A host that is told to leave TLSA records alone takes back what it has said about its keys: the others would wait for it with theirs.
func TestFleetWithoutDANE(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, "mode: check", "mx1", "mx2")
	says := func() (hosts []string) {
		c.round(c.hosts...)
		sight, err := c.hosts[0].member.Keys("mx").Look(t.Context(), nil)
		c.world.check(err)
		for _, h := range sight.Hosts {
			hosts = append(hosts, h.Host)
		}
		return hosts
	}
	if hosts := says(); !slices.Equal(hosts, []string{"mx1", "mx2"}) {
		t.Fatalf("before: %q", hosts)
	}
	c.hosts[1].daneHost.edit("dane: {mode: check", "dane: {mode: \"off\"")
	if hosts := says(); !slices.Equal(hosts, []string{"mx1"}) {
		t.Errorf("they wait for %q", hosts)
	}
}

// Emergency: the leaked key and the next key, which has leaked with it, are replaced on all hosts, and their records go. Nobody asks the others but
// the store.
func TestFleetEmergency(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2")
	c.round(c.hosts...)
	c.steady(c.hosts...)
	leaked, next := c.hosts[0].spki(), c.hosts[0].next()
	watch := c.watch()
	asked := rollNow()
	asked.Roll.Emergency, asked.Roll.Fresh = true, true
	c.hosts[1].run(t.Context(), asked)
	c.until("both keys are replaced", c.hosts, func([]report.Certificate) bool {
		for _, h := range c.hosts {
			if keys := h.keys(); slices.Contains([]string{leaked, next}, h.spki()) || slices.Contains(keys, leaked) || slices.Contains(keys, next) {
				return false
			}
		}
		return c.hosts[0].spki() == c.hosts[1].spki()
	})
	watch()
}

// The store is away, and then lost: renewals with the same key are deployed, another key waits and says since when, nothing is removed. Then the
// hosts fill the store again, and the change of keys comes to its end.
func TestFleetKeysWithoutTheStore(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2")
	c.round(c.hosts...)
	c.steady(c.hosts...)
	watch := c.watch()
	first, next := c.hosts[0].spki(), c.hosts[0].next()
	c.hosts[0].pass(report.CodeOK, rollNow()) // mx2 has not heard of it
	if c.hosts[0].spki() != next {
		t.Fatalf("mx1 has the key %s, want %s", c.hosts[0].spki(), next)
	}
	// mx2 takes the certificate, and the store is away before the key is in service.
	h := c.hosts[1]
	away := c.etcd.Members[0]
	h.daneHost.heed = func(stage string) {
		if stage == "taken" {
			away.Stop()
		}
	}
	r := h.run(t.Context(), byDaemon)
	h.daneHost.heed = nil
	if h.spki() != first || r.Error == nil || r.Error.Kind != kindDANE || r.Code != report.CodeTemporary || !strings.Contains(r.Error.Message, "the store of the fleet") {
		t.Errorf("mx2 serves %s, want %s: %+v; %q", h.spki(), first, r.Error, h.daneHost.said)
	}
	for range 5 {
		time.Sleep(h.ttl)
		c.round(c.hosts...)
	}
	if !slices.Contains(h.keys(), first) || !slices.Contains(c.hosts[0].keys(), first) {
		t.Fatalf("the record of a served key was removed: %q", h.keys())
	}
	c.etcd.Wipe()
	for _, h := range c.hosts {
		h.stop()
		h.starts()
	}
	c.steady(c.hosts...)
	if c.hosts[0].spki() != next || slices.Contains(c.hosts[0].keys(), first) {
		t.Errorf("the key is %s, want %s; the zone has %q", c.hosts[0].spki(), next, c.hosts[0].keys())
	}
	watch()
}

// A host that dies in the middle of a change of records, and whose clock was ahead, keeps the others from changing their key until it is forgotten by
// hand, and no longer.
func TestFleetForgottenInAChange(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2")
	c.round(c.hosts...)
	c.steady(c.hosts...)
	here, gone := c.hosts[0], c.hosts[1]
	next := here.next()
	c.world.check(gone.member.Keys("mx").Change(t.Context(), func(text []byte, _ map[string]time.Time) ([]byte, error) {
		var shared dane.Shared
		c.world.check(json.Unmarshal(text, &shared))
		shared.Marks = map[string]dane.Mark{"mx2": {At: time.Now().Add(5 * time.Minute), Without: []string{next}}}
		return json.Marshal(shared)
	}))
	c.goes(gone)
	if r := here.run(t.Context(), rollNow()); here.spki() == next || !strings.Contains(r.Error.Message, "host mx2 of the fleet is changing the TLSA records") {
		t.Fatalf("the key is changed although another host changes records: %+v, %+v", r, r.Error)
	}
	c.world.check(here.member.ForgetTLSA(t.Context(), "mx2"))
	c.world.check(here.member.Forget(t.Context(), "mx2"))
	c.until("the key is changed", c.hosts[:1], func([]report.Certificate) bool { return here.spki() == next })
}

// A host that was removed from the fleet changes no records any more, not even one that is missing: it says why. The others go on.
func TestFleetRemovedHostKeepsOffTheRecords(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2")
	c.round(c.hosts...)
	c.steady(c.hosts...)
	here, gone := c.hosts[0], c.hosts[1]
	for _, known := range gone.member.Recipients() {
		if known.Source == "this host" {
			_, err := here.member.RemoveRecipient(t.Context(), seal.Recipient(known.Recipient))
			c.world.check(err)
		}
	}
	gone.publish("3 1 1 " + here.spki()) // somebody has removed that of the next key
	r := gone.run(t.Context(), byDaemon)
	if said := strings.Join(r.Warnings, "\n"); !strings.Contains(said, "no TLSA record is changed, because this host takes no part in its fleet: the recipient of this host was removed") {
		t.Errorf("it says %q", said)
	}
	if keys := gone.keys(); len(keys) != 1 {
		t.Errorf("it has changed the records: %v", keys)
	}
	c.until("the other host adds the record again", c.hosts[:1], func([]report.Certificate) bool { return len(gone.keys()) == 2 })
}

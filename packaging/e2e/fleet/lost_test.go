package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lose loses etcd in three ways: none of its members answers; it is restored from a snapshot that was made many generations ago; it begins
// anew, empty. Senders see nothing of it, nobody orders for it, and the hosts say since when they are without.
func (w *town) lose(t *testing.T, yesterday string) {
	w.keysRest(t.Context())
	serial := w.serve(laterLimit, "", w.hosts...)
	orders, generation := len(w.orders.list()), w.generations["mx ec256"]

	w.eachMember(func(m *member) error { m.kill(); return nil })
	w.eachHost(func(h *host) {
		w.within(laterLimit, h.name+" says since when etcd is away", func() error { return w.saysAway(t.Context(), h) })
		if r := w.mxcert(h, "renew", "--now", "mx"); r.Code != 75 {
			t.Errorf("renew on %s without etcd: exit status %d\n%s%s", h.name, r.Code, r.Stdout, r.Stderr)
		}
	})
	w.damage(t, w.hosts[0], serial)
	w.say("etcd is away, and all hosts say so")

	w.eachMember(func(m *member) error { return m.restore(t.Context(), yesterday) })
	w.back(t, serial, orders, generation, "restored from a snapshot")
	generation = w.generations["mx ec256"]
	serial = w.renewed(t, w.hosts[1], serial)
	orders++

	w.eachMember(func(m *member) error { m.kill(); return m.wipe(t.Context(), "new") })
	w.check(w.etcdReady(t.Context()))
	w.letIn("mx1", "mx2", "mx3", "mx4")
	w.back(t, serial, orders, generation, "empty")
	w.renewed(t, w.hosts[2], serial)
}

// keysRest waits until no change of keys is under way: one that the storm has asked for goes on when etcd is back, and is no order because of the loss.
func (w *town) keysRest(ctx context.Context) {
	var since time.Time
	w.within(laterLimit, "no change of keys is under way", func() error {
		for _, h := range w.hosts {
			if err := w.steady(ctx, h); err != nil {
				since = time.Time{}
				return err
			}
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < 5*time.Second {
			return errors.New("it is so only since a moment")
		}
		return nil
	})
}

// steady reports what a host still has to do about its TLSA records.
func (w *town) steady(ctx context.Context, h *host) error {
	r, err := h.Run(ctx, "mxcert", "status", "--json")
	if err != nil {
		return err
	}
	var all struct {
		Certificates []struct{ TLSA struct{ State string } }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		return err
	}
	if len(all.Certificates) != 1 || all.Certificates[0].TLSA.State != "steady" {
		return fmt.Errorf("%s: %+v", h.name, all.Certificates)
	}
	return nil
}

// saysAway checks that a host says that etcd is away, and since when.
func (w *town) saysAway(ctx context.Context, h *host) error {
	status, err := w.fleetStatus(ctx, h)
	if err != nil {
		return err
	}
	if status.code != 75 || status.Engine.Up || status.Engine.Since.IsZero() || time.Since(status.Engine.Since) > time.Hour || status.Engine.Reason == "" {
		return fmt.Errorf("fleet status: exit status %d, %+v", status.code, status.Engine)
	}
	r, err := h.Run(ctx, "mxcert", "status", "--json")
	if err != nil {
		return err
	}
	var all struct {
		Fleet struct {
			Name   string
			Engine struct {
				Up    bool
				Since time.Time
			}
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		return err
	}
	if all.Fleet.Name != "berlin" || all.Fleet.Engine.Up || all.Fleet.Engine.Since.IsZero() {
		return fmt.Errorf("status: exit status %d, %+v", r.Code, all.Fleet)
	}
	return nil
}

// damage removes what a host serves: it is put back without etcd.
func (w *town) damage(t *testing.T, h *host, serial string) {
	t.Helper()
	h.wire.rest() // until it is back, senders are told to come later
	w.must(h, "rm", "/etc/exim4/exim.crt")
	if r := w.mxcert(h, "deploy", "mx"); r.Code != 0 {
		t.Errorf("deploy on %s without etcd: exit status %d\n%s%s", h.name, r.Code, r.Stdout, r.Stderr)
	}
	w.served(serial)
	h.wire.resume()
}

// back waits until the fleet is well again: with the certificate and the generation that it had, and without an order.
func (w *town) back(t *testing.T, serial string, orders int, generation int64, how string) {
	t.Helper()
	w.check(w.etcdReady(t.Context()))
	began := time.Now()
	w.within(leaseLimit, "the fleet is well, with etcd "+how, func() error { return w.well(t.Context()) })
	w.say("etcd is back, %s: all is well after %v", how, time.Since(began).Round(100*time.Millisecond))
	if now := w.serve(laterLimit, "", w.hosts...); now != serial {
		t.Errorf("etcd %s: %s became %s", how, serial, now)
	}
	if n := len(w.orders.list()); n != orders {
		t.Errorf("etcd %s: %d orders became %d", how, orders, n)
	}
	if now := w.generations["mx ec256"]; now < generation {
		t.Errorf("etcd %s: generation %d became %d", how, generation, now)
	}
}

// renewed orders on a host: all serve it.
func (w *town) renewed(t *testing.T, h *host, before string) (serial string) {
	t.Helper()
	if err := w.again(t.Context(), h, []string{"renew", "--now", "mx"}); err != nil {
		t.Fatal(err)
	}
	serial = w.serve(laterLimit, before, w.hosts...)
	w.within(laterLimit, "the fleet is well", func() error { return w.well(t.Context()) })
	return serial
}

// snapshot is a copy of what etcd holds, as an operator makes it.
func (w *town) snapshot(ctx context.Context) (content string, err error) {
	const file = "/root/snapshot.db"
	r, err := w.members[0].Run(ctx, slices.Concat([]string{"env"}, w.operator(), []string{"ETCDCTL_ENDPOINTS=" + w.endpoints()[0], "etcdctl", "snapshot", "save", file})...)
	if err == nil && r.Code != 0 {
		err = errors.New(r.Stdout + r.Stderr)
	}
	if err != nil {
		return "", err
	}
	return w.members[0].Read(file)
}

// restore has a member begin with a snapshot.
func (m *member) restore(ctx context.Context, snapshot string) error {
	const file = "/root/restore.db"
	if err := m.Write(file, snapshot, 0o600); err != nil {
		return err
	}
	script := strings.Join([]string{"rm -rf " + dataDirectory + "/data; ETCDCTL_API=3 etcdctl snapshot restore", file, "--name", m.name, "--data-dir", dataDirectory + "/data",
		"--initial-cluster", m.town.peers(), "--initial-cluster-token", "town", "--initial-advertise-peer-urls", "https://" + m.address + ":2380"}, " ")
	if _, err := m.Must(ctx, "sh", "-ec", script); err != nil {
		return err
	}
	return m.start(ctx, "existing")
}

// wipe has a member begin without data.
func (m *member) wipe(ctx context.Context, state string) error {
	if _, err := m.Must(ctx, "rm", "-rf", dataDirectory+"/data"); err != nil {
		return err
	}
	return m.start(ctx, state)
}

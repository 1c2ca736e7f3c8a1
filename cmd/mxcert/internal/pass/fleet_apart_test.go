package pass

import (
	"crypto/x509"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/deploy/served"

	"mxcert/cmd/mxcert/internal/report"
)

// A revoked certificate is due on all hosts, and one of them orders for all. What was revoked because of its key gets another key.
func TestFleetRevoked(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	first := a.pass(report.CodeOK, renew).Keys[0]
	b.pass(report.CodeOK, renew)
	a.check(a.lineage().SaveRevocation(a.slot(bundle.EC256).Current, state.Revocation{Reason: "keyCompromise", Asked: time.Now(), Done: time.Now(), KeyCompromised: true}))
	r := a.fleetRunner()
	r.TellRevoked(a.lineage())
	a.check(r.Tell(t.Context()))
	b.serves()
	heard := b.runs()
	for len(b.member.Revocations("mx")) == 0 {
		select {
		case <-heard:
		case <-time.After(50 * time.Millisecond):
			b.member.Revocations("mx")
			_, _ = b.member.Take(t.Context(), "mx", bundle.EC256) // the certificate is of interest
		}
	}
	second := b.pass(report.CodeOK, byDaemon).Keys[0]
	if second.Serial == first.Serial || second.SPKI == first.SPKI || !slices.Contains(b.events(), "revoked") || c.placed() != 2 {
		t.Errorf("%+v, %q, %d orders", second, b.events(), c.placed())
	}
	if got := a.pass(report.CodeOK, renew).Keys[0]; got.Serial != second.Serial || c.placed() != 2 {
		t.Errorf("%+v, %d orders", got, c.placed())
	}
	c.served()
}

// Hosts that disagree about the CA do not order in turn: each keeps what its own CA has issued, and says why.
func TestFleetOfTwoAuthorities(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	second := b.AddCA(t, ca.Options{})
	b.edit(c.world.CA.DirectoryURL(), second.DirectoryURL())
	a.pass(report.CodeOK, renew)
	r := b.pass(report.CodeOK, renew)
	if text := strings.Join(r.Warnings, "\n"); !strings.Contains(text, "which is not in acme.directories of this host") || len(r.Issued) != 1 {
		t.Errorf("%+v", r)
	}
	for range 2 {
		for _, h := range c.hosts {
			if r := h.pass(report.CodeOK, renew); r.Changed {
				t.Errorf("%s: %+v", h.name, r)
			}
		}
	}
}

// A store from an old backup, garbage in it, and values of a later version make no host go back, order or stop serving.
func TestFleetStoreIsWrong(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	a.pass(report.CodeOK, renew)
	b.pass(report.CodeOK, renew)
	old, _, err := a.store.Below(t.Context(), "certificate")
	a.check(err)
	serial := a.pass(report.CodeOK, atOnce).Keys[0].Serial
	b.pass(report.CodeOK, renew)
	replace := func(value func(state.Versioned) []byte) {
		for _, v := range old {
			a.check(a.store.Replace(v.Key, value(v)))
		}
	}
	for what, value := range map[string]func(state.Versioned) []byte{
		"an old backup":      func(v state.Versioned) []byte { return v.Value },
		"garbage":            func(state.Versioned) []byte { return []byte("garbage") },
		"a truncated bundle": func(v state.Versioned) []byte { return v.Value[:len(v.Value)/2] },
		"nothing":            func(state.Versioned) []byte { return nil },
	} {
		replace(value)
		for _, h := range c.hosts {
			if r := h.pass(report.CodeOK, renew); r.Keys[0].Serial != serial || r.Changed || r.Stage != report.Served || c.placed() != 2 {
				t.Errorf("%s: %s: %+v, %d orders", what, h.name, r, c.placed())
			}
		}
		now, _, err := a.store.Below(t.Context(), "certificate/mx/ec256")
		if a.check(err); len(now) == 0 {
			v, err := a.store.Get(t.Context(), "certificate/mx/ec256")
			a.check(err)
			now = append(now, v)
		}
		if slices.ContainsFunc(old, func(v state.Versioned) bool { return string(v.Value) == string(now[0].Value) }) || len(now[0].Value) < 1000 {
			t.Errorf("%s: the store was not filled again: %.80q", what, now[0].Value)
		}
	}
	replace(func(state.Versioned) []byte { return []byte(`{"version": 99}`) })
	for _, h := range c.hosts {
		if r := h.pass(report.CodeOK, renew); r.Keys[0].Serial != serial || r.Stage != report.Served || c.placed() != 2 {
			t.Errorf("a later version: %s: %+v, %d orders", h.name, r, c.placed())
		}
	}
}

// What a host has lost from its disk, it takes again from the fleet. It orders nothing.
func TestFleetRestoresAHost(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	a.pass(report.CodeOK, renew)
	b.pass(report.CodeOK, renew)
	old := b.Path("old")
	b.check(os.CopyFS(old, os.DirFS(b.Path("state"))))
	serial := a.pass(report.CodeOK, atOnce).Keys[0].Serial
	b.pass(report.CodeOK, renew)
	restore := func(from string) {
		b.leave()
		b.check(os.RemoveAll(b.Path("state")))
		if from != "" {
			b.check(os.CopyFS(b.Path("state"), os.DirFS(from)))
		} else {
			b.check(os.Mkdir(b.Path("state"), 0o700))
		}
		b.join()
	}
	for what, from := range map[string]string{"an old backup": old, "nothing": ""} {
		restore(from)
		if r := b.pass(report.CodeOK, renew); r.Keys[0].Serial != serial || r.Stage != report.Served || c.placed() != 2 {
			t.Errorf("%s: %+v, %d orders", what, r, c.placed())
		}
	}
	for _, damaged := range []string{"fullchain.pem", "privkey.pem"} {
		directory := b.lineage().Directory(b.slot(bundle.EC256).Current)
		b.check(os.WriteFile(directory+"/"+damaged, []byte("damaged"), 0o600))
		if r := b.pass(report.CodeOK, renew); r.Keys[0].Serial != serial || r.Stage != report.Served || c.placed() != 2 {
			t.Errorf("%s: %+v, %d orders", damaged, r, c.placed())
		}
	}
	c.served()
}

// Each host takes the key types that it wants, and the one that wants another orders that alone.
func TestFleetKeys(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	a.pass(report.CodeOK, renew)
	b.edit("keys: [ec256]", "keys: [ec256, rsa2048]")
	b.edit("mx.crt", "mx.{key}.crt")
	b.edit("mx.key", "mx.{key}.key")
	b.edit(`endpoints: ["`+b.SMTP.Address()+`"]`, "endpoints: []")
	r := b.pass(report.CodeOK, renew)
	if len(r.Keys) != 2 || r.Keys[0].Serial != a.look(report.CodeOK).Keys[0].Serial || len(r.Issued) != 1 || r.Issued[0].Key != "rsa2048" || c.placed() != 2 {
		t.Errorf("%+v, %d orders", r, c.placed())
	}
	if r := a.pass(report.CodeOK, renew); r.Changed || len(r.Keys) != 1 {
		t.Errorf("%+v", r)
	}
}

// What another host has ordered suits this one if it could have ordered it itself.
func TestUnsuitable(t *testing.T) {
	t.Parallel()
	o, stranger := newOffline(t), newOffline(t)
	o.issued()
	p := o.begin(byDaemon)
	p.have.ReadBundles()
	p.along = newAlongside()
	p.along.own = p.ownWish()
	names := []string{"mx.example.org", "host7.example.org"}
	end := func(days int) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, days) }
	}
	key, err := bundle.EC256.Generate()
	o.check(err)
	compromised := o.keep(o.sign(bundle.EC256, key, end(50)), time.Now().Add(-2*time.Hour))
	o.check(o.lineage().SaveRevocation(compromised.ID, state.Revocation{KeyCompromised: true}))
	for what, tt := range map[string]struct {
		shared fleet.Shared
		says   string
	}{
		"as ours":          {fleet.Shared{Bundle: o.sign(bundle.EC256, nil, end(90)), Names: names, Directory: directory}, ""},
		"fewer names":      {fleet.Shared{Bundle: o.sign(bundle.EC256, nil, end(90)), Names: names[:1], Directory: directory}, "it is not for host7.example.org, which the configuration of this host requires"},
		"another CA":       {fleet.Shared{Bundle: o.sign(bundle.EC256, nil, end(90)), Names: names, Directory: "https://other.example/"}, "which is not in acme.directories of this host"},
		"another root":     {fleet.Shared{Bundle: stranger.sign(bundle.EC256, nil, end(90)), Names: names, Directory: directory}, "does not lead to a root in acme.roots_file"},
		"another key type": {fleet.Shared{Bundle: o.sign(bundle.RSA2048, nil, end(90)), Names: names, Directory: directory}, "rsa2048"},
		"it has expired":   {fleet.Shared{Bundle: o.sign(bundle.EC256, nil, end(-1)), Names: names, Directory: directory}, "expired"},
		"a lost key":       {fleet.Shared{Bundle: o.sign(bundle.EC256, key, end(90)), Names: names, Directory: directory}, "its key must not be used any more"},
		"it ends sooner":   {fleet.Shared{Bundle: o.sign(bundle.EC256, nil, end(30)), Names: names, Directory: directory}, "and the one of this host"},
	} {
		if says := p.unsuitable(0, bundle.EC256, &tt.shared); (says == "") != (tt.says == "") || !strings.Contains(says, tt.says) {
			t.Errorf("%s: %q", what, says)
		}
	}
}

// The serial number that a host says it serves is the new one only if all endpoints show it.
func TestShownOf(t *testing.T) {
	t.Parallel()
	at := time.Now().UTC()
	shows := func(key, serial string) served.Result {
		return served.Result{Probe: served.Probe{Key: key}, Serial: serial, At: at}
	}
	for want, seen := range map[string][]served.Result{
		"": {shows("ec256", ""), shows("rsa2048", "1")}, "1": {shows("ec256", "1"), shows("rsa2048", "0"), shows("ec256", "1")}, "0": {shows("ec256", "1"), shows("ec256", "0"), shows("ec256", "1")},
	} {
		if serial, _ := shownOf(seen, bundle.EC256, "1"); serial != want {
			t.Errorf("%q, want %q", serial, want)
		}
	}
}

// A name that is too many is said, and hosts do not order in turn because of one that only the certificate of another host has.
func TestOtherNames(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	want := o.want()
	want.InFleet = true
	l := o.lineage()
	o.check(l.SaveOthers([]state.OtherName{{Name: "b.example.org", Reason: "wanted by mx2"}, {Name: "mx.example.org", Reason: "wanted by mx2"}, {Name: "--", Reason: "x"}}))
	with, _, note := WithFound(want, l)
	if note != "" || !slices.Contains(with.Optional, "b.example.org") || with.Reasons()["b.example.org"] != "wanted by mx2" || len(with.Names) != len(want.Names)+1 {
		t.Errorf("%+v, %q", with, note)
	}
	want.InFleet = false
	if with, _, _ := WithFound(want, l); len(with.Names) != len(want.Names) {
		t.Errorf("without a fleet: %+v", with.Names)
	}
	o.check(l.SaveOthers(nil))
	if names := l.Others(); len(names) != 0 {
		t.Errorf("%+v", names)
	}
}

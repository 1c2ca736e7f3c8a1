package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// identityFaults are what can become of the file of an identity; text is what it had.
func identityFaults(t testing.TB, path, text string) map[string]struct {
	damage func() error
	says   string
} {
	t.Helper()
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) func() error { return func() error { return os.WriteFile(path, []byte(text), 0o600) } }
	own, err := age.ParseX25519Identity(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		damage func() error
		says   string
	}{
		"missing":               {func() error { return nil }, "no such file"},
		"a directory":           {func() error { return os.Mkdir(path, 0o700) }, "is not a regular file"},
		"empty":                 {write(""), "it is empty"},
		"garbage":               {write("garbage-with-a-secret\n"), "it is no identity of age"},
		"a recipient":           {write(own.Recipient().String() + "\n"), "it is a recipient, the public half"},
		"of a stranger":         {write(stranger.String() + "\n"), "is not among them"},
		"everybody can read it": {func() error { return errors.Join(write(text)(), os.Chmod(path, 0o644)) }, "can be read by everybody"},
	}
}

// A host whose identity cannot be used, whatever has become of the file, starts, repairs what it serves, places no order, and says since when its
// fleet is away, and why. When the file is in order again, the same daemon takes part.
func TestFleetIdentityLost(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1")
	h := c.hosts[0]
	d := h.daemon()
	serial := c.awaitOther(t, "")
	d.stop()
	path := h.Path("credentials", "age")
	kept, err := os.ReadFile(path)
	h.check(err)
	var since time.Time
	for what, fault := range identityFaults(t, path, string(kept)) {
		h.check(errors.Join(os.RemoveAll(path), fault.damage()))
		if since.IsZero() { // more often than three times in an hour, the daemon leaves a file to whoever changes it
			h.writeTo("tls/mx.crt", "lost")
		}
		d = h.again()
		d.awaitLog("all certificates have been looked at") // a change in the middle of a pass is another matter
		if h.shown() != serial {
			t.Errorf("%s: nothing is repaired: %q is served, not %s", what, h.shown(), serial)
		}
		h.writeTo("tls/mx.crt", "lost")
		if h.asked(report.CodeOK, Order{DeployOnly: true}); h.shown() != serial {
			t.Errorf("%s: %s is served, not %s", what, h.shown(), serial)
		}
		got := h.asked(report.CodeTemporary, Order{Force: true})
		if got.Error == nil || got.Error.Kind != pass.KindFleetAway || !strings.Contains(got.Error.Message, fault.says) || got.Error.Hint == "" {
			t.Errorf("%s: an order that is due: %+v", what, got.Error)
		}
		health := d.current().member.Health()
		if health.Up || !strings.Contains(health.Reason, fault.says) || health.Hint == "" || !since.IsZero() && !health.Since.Equal(since) {
			t.Errorf("%s: %+v, before since %s", what, health, since)
		}
		since = health.Since
		if list := healthFindings("berlin", health); len(list) != 1 || list[0].ID != "fleet-away" || list[0].Severity != finding.Error || !strings.Contains(list[0].Message, fault.says) {
			t.Errorf("%s: what is told: %+v", what, list)
		}
		d.awaitLog("the store of the fleet cannot be used; mail is served as before")
		d.stop()
		if log := d.log.String(); strings.Contains(log, "AGE-SECRET-KEY-1"+string(kept[16:30])) || strings.Contains(log, "garbage-with") {
			t.Errorf("%s: a secret is in the log", what)
		}
	}
	if n := c.world.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}

	h.check(os.RemoveAll(path))
	d = h.again()
	eventually(t, "the store is away", func() bool { return !d.current().member.Health().Since.IsZero() })
	member := d.current().member
	h.check(os.WriteFile(path, kept, 0o600))
	h.write(h.text() + "# a comment\n")
	eventually(t, "it takes part", func() bool { return d.current().member.Health().Up })
	eventually(t, "the reload", func() bool { return d.current().runner.Host.Fingerprint == h.wants().Fingerprint })
	if d.current().member != member {
		t.Error("the membership is another one")
	}
	h.asked(report.CodeOK, Order{Force: true})
	if other := c.awaitOther(t, serial); other == serial || c.world.placed() != 2 {
		t.Errorf("%s is served, %d orders", other, c.world.placed())
	}
	d.stop()
}

// A reload with another fleet whose files are not in order is refused, like any bad edit: what works goes on. The same file of the fleet that is in
// force keeps no other edit from being taken.
func TestFleetReloadWithoutFiles(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1")
	h := c.hosts[0]
	d := h.daemon()
	c.awaitOther(t, "")
	member := d.current().member
	good := h.text()
	refused := func(what, says string) {
		t.Helper()
		eventually(t, what+" is refused", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return strings.Contains(d.status.ConfigError, says)
		})
		if d.current().member != member || !member.Health().Up {
			t.Errorf("%s: another fleet is in force: %+v", what, d.current().member)
		}
	}
	h.edit("credentials/age", "credentials/aeg")
	refused("an identity that is not there", "no such file")
	h.write(good)
	eventually(t, "the good one", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.status.ConfigError == ""
	})
	stranger, err := age.GenerateX25519Identity()
	h.check(err)
	h.writeTo("credentials/other", stranger.String()+"\n")
	h.edit("credentials/age", "credentials/other")
	refused("the identity of a stranger", "is not among them")
	h.check(os.Remove(h.Path("credentials", "age")))
	h.write(good + "# a comment\n")
	eventually(t, "an edit of something else", func() bool {
		return d.current().runner.Host.Fingerprint == h.wants().Fingerprint && d.current().member == member
	})
	d.stop()
}

// Two hosts with one identity and one name: the second one takes no part, serves, and repairs what it serves.
func TestFleetTwinServes(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	first, second := c.hosts[0], c.hosts[1]
	d := second.daemon()
	serial := ""
	eventually(t, "a certificate", func() bool { serial = second.shown(); return serial != "" })
	d.stop()
	other := first.daemon()
	eventually(t, "the first host takes part", func() bool { return first.shown() == serial && other.current().member.Health().Up })
	text, err := os.ReadFile(first.Path("credentials", "age"))
	first.check(err)
	second.writeTo("credentials/age", string(text))
	second.edit("host: mx2", "host: mx1")
	second.writeTo("tls/mx.crt", "lost")
	d = second.again()
	eventually(t, "the repair", func() bool { return second.shown() == serial })
	got := second.asked(report.CodeTemporary, Order{Force: true})
	if got.Error == nil || got.Error.Kind != pass.KindFleetAway || !strings.Contains(got.Error.Message, "is at work") {
		t.Errorf("%+v", got.Error)
	}
	if health := d.current().member.Health(); health.Up || !strings.Contains(health.Reason, "is at work") {
		t.Errorf("%+v", health)
	}
	if first.shown() != serial || !other.current().member.Health().Up {
		t.Error("the first host is disturbed")
	}
	d.stop()
	other.stop()
}

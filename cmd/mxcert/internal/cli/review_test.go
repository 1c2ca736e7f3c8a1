package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"

	"mxcert/cmd/mxcert/internal/report"
)

var (
	labDefault    lab.Options
	configDefault lab.ConfigOptions
)

func (h *host) text() string {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	return string(text)
}

func (h *host) put(name, text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path(name), []byte(text), 0o600))
}

// generationsOf lists the directories of stored certificates, oldest first.
func (h *host) generationsOf(key string) (list []string) {
	h.t.Helper()
	all, err := filepath.Glob(h.Path("state", "lineages", "mx", "2*"))
	h.check(err)
	for _, dir := range all {
		meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
		h.check(err)
		if strings.Contains(string(meta), `"`+key+`"`) {
			list = append(list, dir)
		}
	}
	return list
}

// deploy with nothing, or not everything, to deploy is an error in a report.
func TestDeployWithoutCertificate(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, configDefault)
	if c := h.report(report.CodeFailed, "deploy", "mx").Certificates[0]; c.Error == nil || !strings.Contains(c.Error.Message, "mxcert renew") {
		t.Errorf("%+v", c.Error)
	}
	h.report(report.CodeOK, "renew")
	h.check(os.WriteFile(filepath.Join(h.generationsOf("rsa2048")[0], "privkey.pem"), []byte("x"), 0o600))
	if c := h.report(report.CodeNotInService, "deploy", "mx").Certificates[0]; c.Error == nil || !strings.Contains(c.Error.Message, "rsa2048") {
		t.Errorf("%+v", c.Error)
	}
}

// Many servers delay their greeting to deter spammers: that is no failure.
func TestSlowGreeting(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.SMTP.SetFaults(smtpd.Faults{GreetingDelay: 4 * time.Second})
	h.report(report.CodeOK, "renew")
	h.report(report.CodeOK, "renew")
	h.report(report.CodeOK, "status")
}

// That senders are not served is worse than that nothing can be ordered, and is what the report says.
func TestBothFail(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	h.check(h.CA.Close())
	h.check(h.SMTP.Close())
	c := h.report(report.CodeNotInService, "renew", "--now").Certificates[0]
	if c.Error.Stage != "verify" || !strings.Contains(c.Error.Message, "refused") || !strings.Contains(c.Error.Message, "CA") {
		t.Errorf("%+v", c.Error)
	}
}

// An order that was paid for and not collected is collected by the next run, due or not.
func TestPaidOrderIsCollected(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Certificate {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	h.report(report.CodeTemporary, "renew", "--now", "--timeout", "3s")
	h.CA.SetWrap(nil)
	orders := h.CA.Count(ca.NewOrder)
	r := h.report(report.CodeOK, "renew")
	if !r.Changed || r.Certificates[0].Keys[0].Serial == first || h.CA.Count(ca.NewOrder) != orders {
		t.Errorf("%d orders more, %+v", h.CA.Count(ca.NewOrder)-orders, r)
	}
	if again := h.report(report.CodeOK, "renew"); again.Changed {
		t.Errorf("%+v", again)
	}
}

// A damaged current certificate and a CA that is away: an older good one serves.
func TestDamagedCurrentWithoutCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.report(report.CodeOK, "renew", "--now")
	h.check(os.WriteFile(filepath.Join(h.generationsOf("ec256")[1], "fullchain.pem"), []byte("x"), 0o600))
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	h.check(h.CA.Close())
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != report.Served || c.Keys[0].Serial != first || len(c.Warnings) == 0 {
		t.Errorf("%+v", c)
	}
}

// A failure that was recorded while the clock was ahead says nothing about now.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	ahead := &state.Failure{At: time.Now().Add(10 * 365 * 24 * time.Hour)}
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	store := state.New(disk.At(h.Path("state")))
	lineage := store.Lineage("mx")
	record, _, err := lineage.Load()
	h.check(err)
	ahead.NotBefore, ahead.ChargedToCA, ahead.Count = ahead.At.Add(time.Hour), true, 1
	record.Failure = ahead
	record.Slot("ec256").RenewAt, record.Slot("ec256").Renewal = time.Now().Add(-time.Hour), state.RenewalInfo{NextCheck: time.Now().Add(time.Hour)}
	h.check(lineage.Save(record))
	if r := h.report(report.CodeOK, "renew"); !r.Changed {
		t.Errorf("not renewed: %+v", r)
	}
}

// A rollback stands, although the older certificate was replaced because it was due.
func TestRollbackStands(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.window(first, -2*time.Hour, -time.Hour)
	if second := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial; second == first {
		t.Fatal("not renewed")
	}
	for _, command := range [][]string{{"rollback", "mx"}, {"renew"}, {"renew"}} {
		if got := h.report(report.CodeOK, command...).Certificates[0].Keys[0].Serial; got != first {
			t.Errorf("%v: serial %s, want %s", command, got, first)
		}
	}
	if got := h.report(report.CodeOK, "renew", "--now").Certificates[0].Keys[0].Serial; got == first {
		t.Error("renew --now does not end a rollback")
	}
}

// TXT records of a certificate that is not configured any more are removed all the same.
func TestOrphanedRecords(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.check(h.World.Add(`_acme-challenge.old.example.org. 60 IN TXT "left"`))
	h.report(report.CodeOK, "renew")
	h.put("state/journal/gone.20260101T000000000Z-01234567.json", `{"version":1,"lineage":"gone","provider":"rfc2136",
		"records":[{"domain":"old.example.org","name":"_acme-challenge.old.example.org.","zone":"example.org.","value":"left"}]}`)
	h.report(report.CodeOK, "renew")
	if left := h.World.TXT("_acme-challenge.old.example.org."); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if entries, err := filepath.Glob(h.Path("state", "journal", "*")); err != nil || len(entries) > 0 {
		t.Errorf("the journal has %v (%v)", entries, err)
	}
}

// Where no unit is reloaded, a deploy hook may be what tells the server: it runs before the proof.
func TestHookReloads(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, configDefault)
	h.check(os.MkdirAll(h.Path("hooks", "deploy.d"), 0o755))
	h.check(os.WriteFile(h.Path("hooks", "deploy.d", "reload"), []byte("#!/bin/sh\necho reload >>"+h.Path("asked")+"\n"), 0o755))
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() { // the server's side of the hook
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := os.Stat(h.Path("asked")); err == nil {
				_ = h.SMTP.Reload()
			}
		}
	}()
	h.report(report.CodeOK, "renew")
	if text, err := os.ReadFile(h.Path("asked")); err != nil || string(text) != "reload\n" {
		t.Errorf("the hook ran %q (%v), want once", text, err)
	}
}

func TestForeignStateDirectory(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	dir := t.TempDir()
	h.check(os.WriteFile(filepath.Join(dir, "other"), nil, 0o644))
	h.check(os.Chmod(dir, 0o755))
	h.edit(h.Path("state"), dir)
	if got := h.run("renew"); got.code != report.CodeFailed || !strings.Contains(got.stderr, "not mxcert's") {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is now %v (%v)", info.Mode(), err)
	}
}

// Files of roots that cannot be read are faults of the configuration.
func TestMissingRootsFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.check(os.Remove(h.Path("roots.pem")))
	for command, code := range map[string]report.Code{"check": report.CodeFault, "renew": report.CodeConfig, "run": report.CodeConfig} {
		if got := h.run(command); got.code != code || !strings.Contains(got.stderr, "acme.roots_file") || !strings.Contains(got.stderr, "mxcert.yaml:") {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

// check finds a misspelt variable of our own provider, and says which secrets cannot be read, without calling it a fault.
func TestCheckLooksAtTheProvider(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.check(os.Remove(h.Path("credentials", "tsig")))
	if got := h.run("check"); got.code != report.CodeOK || !strings.Contains(got.stderr, "warning") || !strings.Contains(got.stderr, "dns.env.DNSUPDATE_TSIG_SECRET") {
		t.Errorf("unreadable secret: %+v", got)
	}
	h.edit("DNSUPDATE_TSIG_KEY:", "DNSUPDATE_TSIGKEY:")
	if got := h.run("check"); got.code != report.CodeFault || !strings.Contains(got.stderr, "DNSUPDATE_TSIGKEY") || !strings.Contains(got.stderr, "mxcert.yaml:") {
		t.Errorf("misspelt variable: %+v", got)
	}
}

// After a failed order the next renewal is the next try, not the day that would have come without it.
func TestNextRenewalAfterFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	h.edit(`, "host7.example.org"`, "")
	h.check(h.CA.Close())
	c := h.report(report.CodeTemporary, "renew").Certificates[0]
	if c.NextRenewal == nil || time.Until(*c.NextRenewal) > 5*time.Minute {
		t.Errorf("next renewal %v", c.NextRenewal)
	}
}

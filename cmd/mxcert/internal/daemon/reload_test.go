package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// A broken edit leaves the old configuration in force, and says so until the files are good again, be they as they were.
func TestBrokenEdit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what, old, replacement, says string
	}{
		{"a word that is none of the settings", "domains:", "domians:", "domians"},
		{"what only the rooms know", "provider: rfc2136", "provider: rfc2137", "rfc2137"},
		{"a file of roots that is not there", "acme: {", "acme: {roots_file: /nonexistent/roots.pem, ", "roots_file"},
		{"a state directory of others", "/state\n", "/other\n", "not mxcert's"},
		{"a secret of an account that cannot be read", "acme: {", `acme: {eab: {kid: "1", hmac_key: "file:/nonexistent/key"}, `, "acme.eab.hmac_key"},
	} {
		h := desert(t)
		good := h.text()
		h.check(os.Mkdir(h.Path("other"), 0o700))
		h.check(os.WriteFile(h.Path("other", "mail"), nil, 0o600))
		d, log := h.atRest()
		old := d.current()
		h.edit(tt.old, tt.replacement)
		d.reload(ended(), byWatch)
		if d.current() != old || old.waiting.Err() != nil {
			t.Errorf("%s: the old configuration is not in force any more", tt.what)
		}
		if !log.has("level=ERROR", "the one that was loaded before stays in force", `reason="`+byWatch+`"`, tt.says) || strings.Contains(log.String(), "configuration loaded") {
			t.Errorf("%s: log:\n%s", tt.what, log)
		}
		r := Running(h.store())
		if r == nil || !strings.Contains(r.ConfigError, tt.says) || r.ConfigErrorAt == nil || r.ConfigLoaded.IsZero() {
			t.Errorf("%s: the daemon says of itself: %+v", tt.what, r)
		}
		h.write(good)
		d.reload(ended(), byWatch)
		if r := Running(h.store()); r.ConfigError != "" || r.ConfigErrorAt != nil || !log.has("configuration loaded", "certificates=1") {
			t.Errorf("%s: after it was fixed, the daemon says of itself: %+v, log:\n%s", tt.what, r, log)
		}
		if d.current() == old || old.waiting.Err() == nil {
			t.Errorf("%s: the configuration was not loaded again", tt.what)
		}
		d.tending.Wait()
	}
}

// The watch does not load again what a command has had loaded a moment ago; everything else does.
func TestReloadOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		reason string
		before func(h *host, d *Daemon)
		loads  bool
	}{
		{"the watch, after a command", byWatch, func(_ *host, d *Daemon) { d.reread = time.Now() }, false},
		{"the watch, long after a command", byWatch, func(_ *host, d *Daemon) { d.reread = time.Now().Add(-justNow) }, true},
		{"the watch, without a command", byWatch, func(*host, *Daemon) {}, true},
		{"SIGHUP, after a command", "SIGHUP", func(_ *host, d *Daemon) { d.reread = time.Now() }, true},
		{"the watch, after a command and another edit", byWatch, func(h *host, d *Daemon) { d.reread = time.Now(); h.edit("mx.example.org", "mx2.example.org") }, true},
		{"the watch, after a command found it broken", byWatch, func(_ *host, d *Daemon) {
			d.reread = time.Now()
			d.setStatus(func(s *report.Daemon) { s.ConfigError = "broken" })
		}, true},
	} {
		h := desert(t)
		d, log := h.atRest()
		old := d.current()
		tt.before(h, d)
		d.reload(ended(), tt.reason)
		d.tending.Wait()
		if loads := d.current() != old; loads != tt.loads || log.has("configuration loaded") != tt.loads {
			t.Errorf("%s: loaded: %v, log:\n%s", tt.what, loads, log)
		}
	}
}

// A configuration is in force if it was taken, and no other was tried since.
func TestInForce(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d := newDaemon(h.config, &transcript{})
	config := h.loaded()
	if d.inForce(config) {
		t.Error("before any configuration was taken")
	}
	d, _ = h.atRest()
	if !d.inForce(config) {
		t.Error("what was taken is not in force")
	}
	h.write(h.text() + "# a comment\n")
	if d.inForce(h.loaded()) {
		t.Error("another text is in force")
	}
	d.setStatus(func(s *report.Daemon) { s.ConfigError = "the file was broken meanwhile" })
	if d.inForce(config) {
		t.Error("another one was tried")
	}
}

// Suspicious settings are warnings of a reload.
func TestReloadWarns(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, log := h.atRest()
	h.edit(`DNSUPDATE_NAMESERVER: "127.0.0.1:1"`, `DNSUPDATE_NAMESERVER: "127.0.0.1:1", DNSUPDATE_TSIG_SECRET: "c2VjcmV0IHNlY3JldCBzZWNyZXQ="`)
	d.reload(ended(), "SIGHUP")
	d.tending.Wait()
	if !log.has("level=WARN", "suspicious configuration", "file="+h.config, "line=2", "the secret stands in the configuration file") || log.has("c2VjcmV0") {
		t.Errorf("log:\n%s", log)
	}
}

// The configuration in force is stored without secrets, and an older one does not take its place.
func TestKeep(t *testing.T) {
	t.Parallel()
	h := desert(t)
	h.edit(`DNSUPDATE_NAMESERVER: "127.0.0.1:1"`, `DNSUPDATE_NAMESERVER: "127.0.0.1:1", DNSUPDATE_TSIG_SECRET: "c2VjcmV0IHNlY3JldCBzZWNyZXQ="`)
	d, log := h.atRest()
	first := h.loaded()
	stored := h.Path("state", "running.yaml")
	text, err := os.ReadFile(stored)
	if err != nil || strings.Contains(string(text), "c2VjcmV0") || !strings.Contains(string(text), "env:HIDDEN") {
		t.Errorf("%v:\n%s", err, text)
	}
	if config, err := configs.Load(stored); err != nil || config.Certificates[0].Name != "mx" {
		t.Errorf("%+v, %v", config, err)
	}
	h.edit("mx.example.org", "mx2.example.org")
	h.check(d.take(h.loaded()))
	d.tending.Wait()
	d.keep(first, h.store())
	if text, err := os.ReadFile(stored); err != nil || !strings.Contains(string(text), "mx2.example.org") {
		t.Errorf("%v:\n%s", err, text)
	}
	store := h.store()
	h.check(os.RemoveAll(store.Path()))
	h.check(os.WriteFile(store.Path(), nil, 0o600)) // there is no directory to store it in
	if d.keep(h.loaded(), store); !log.has("level=WARN", "could not be stored") {
		t.Errorf("log:\n%s", log)
	}
}

func TestSetLevel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flag, configured string
		want             slog.Level
	}{
		{"", "debug", slog.LevelDebug}, {"", "info", slog.LevelInfo}, {"", "warn", slog.LevelWarn}, {"", "error", slog.LevelError},
		{"error", "debug", slog.LevelError}, {"debug", "error", slog.LevelDebug}, {"", "", slog.LevelInfo}, {"", "loud", slog.LevelInfo},
	} {
		d := New(Options{Level: &slog.LevelVar{}, LogLevel: tt.flag})
		d.idle.Stop()
		if d.setLevel(tt.configured); d.Level.Level() != tt.want {
			t.Errorf("%q with --log-level %q: %s, want %s", tt.configured, tt.flag, d.Level.Level(), tt.want)
		}
	}
}

// A daemon that cannot start says why, and leaves no socket.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		before func(h *host)
		code   report.Code
		says   string
	}{
		{"a bad configuration", func(h *host) { h.edit("domains:", "domians:") }, report.CodeConfig, "domians"},
		{"one that only the rooms find bad", func(h *host) { h.edit("provider: rfc2136", "provider: rfc2137") }, report.CodeConfig, "rfc2137"},
		{"no configuration", func(h *host) { h.check(os.Remove(h.config)) }, report.CodeConfig, "mxcert.yaml"},
		{"a state directory of others", func(h *host) {
			h.check(os.Mkdir(h.Path("state"), 0o700))
			h.check(os.WriteFile(h.Path("state", "mail"), nil, 0o600))
		}, report.CodeFailed, "not mxcert's"},
		{"another daemon", func(h *host) {
			unlock, err := h.store().LockDaemon()
			h.check(err)
			h.t.Cleanup(unlock)
		}, report.CodeTemporary, "another mxcert run is at work on"},
	} {
		h := desert(t)
		tt.before(h)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d := newDaemon(h.config, &transcript{})
		defer d.idle.Stop()
		if err := d.Run(ctx); report.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) || ctx.Err() != nil {
			t.Errorf("%s: %v, exit code %d", tt.what, err, report.CodeOf(err))
		}
		if _, err := os.Lstat(h.Path("state", "control.sock")); !os.IsNotExist(err) {
			t.Errorf("%s: the socket is left (%v)", tt.what, err)
		}
	}
}

// The end waits for passes that clean up after themselves, but not for ever: systemd would kill the process.
func TestEndWaitsNotForEver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cleanUp, takes time.Duration
		err            bool
	}{{0, 0, false}, {20 * time.Second, 20 * time.Second, false}, {time.Hour, stopTime, true}} {
		synctest.Test(t, func(t *testing.T) {
			d := newDaemon("", &transcript{})
			d.idle.Stop()
			closed := false
			d.workload = newWorkload(&pass.Runner{CAs: acme.NewAuthorities(nil)}, &driftWatch{close: func() { closed = true }})
			work, cancel := context.WithCancel(context.Background())
			d.workload.begin(&d.tending, func() {
				<-work.Done()
				time.Sleep(tt.cleanUp)
			})
			start := time.Now()
			if err := d.end(cancel); (err != nil) != tt.err || time.Since(start) != tt.takes || closed == tt.err {
				t.Errorf("a pass that cleans up for %s: %v after %s, closed: %v", tt.cleanUp, err, time.Since(start), closed)
			}
			ran := false
			if d.workload.begin(&d.tending, func() { ran = true }); d.workload.waiting.Err() == nil || ran {
				t.Error("something can start after the end")
			}
			d.tending.Wait()
		})
	}
}

// A pass that waits for another configuration gets it as soon as it is in force, and the old one if it does not come.
func TestAwaitConfiguration(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, _ := h.atRest()
	old := d.current()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if w := d.awaitConfiguration(ctx, "another"); w != old || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("before the time was over: %v", ctx.Err())
	}
	h.edit("mx.example.org", "mx2.example.org")
	config := h.loaded()
	var taken sync.WaitGroup
	taken.Go(func() {
		time.Sleep(50 * time.Millisecond)
		if err := d.take(config); err != nil {
			t.Error(err)
		}
	})
	if w := d.awaitConfiguration(t.Context(), config.Fingerprint()); w == old || w != d.current() {
		t.Error("the new configuration is in force, and was not returned")
	}
	taken.Wait()
	d.tending.Wait()
}

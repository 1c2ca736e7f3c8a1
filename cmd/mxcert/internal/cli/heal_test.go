package cli

import (
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Somebody who rewrites a file all the time gets his way after three heals, and that is said: once in the log, in status, and
// again after a restart. A person's own commands work all the same, and the daemon begins anew when the hour is over.
func TestFightIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.hook("fail.d/10-note", `echo failed >>"$lab/failed"`)
	d := h.daemon()
	d.awaitLog("certificate in service")
	stop, stopped := make(chan struct{}), make(chan struct{})
	rewritten := func() bool {
		text, err := os.ReadFile(h.Path("tls", "mx.crt"))
		return err == nil && strings.HasPrefix(string(text), "# managed")
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond): // sometimes between a rename and the look at its result
			}
			text, err := os.ReadFile(h.Path("tls", "mx.crt"))
			if err == nil && !strings.HasPrefix(string(text), "# managed") {
				_ = os.WriteFile(h.Path("tls", "mx.crt"), append([]byte("# managed by another tool\n"), text...), 0o640)
			}
		}
	}()
	const alarm = `level=ERROR msg="pass failed" certificate=mx stage=deploy kind=drift`
	d.awaitLog(alarm)
	h.check(os.Chmod(h.Path("tls", "mx.key"), 0o604)) // one more change, which is left alone too
	time.Sleep(2 * time.Second)
	says := func() {
		t.Helper()
		r, got := h.status()
		if c := r.Certificates[0]; got.code != report.CodeNotInService || c.Error == nil || c.Error.Kind != "drift" ||
			!strings.Contains(c.Error.Message, "3 times") || !strings.Contains(c.Error.Message, h.Path("tls", "mx.crt")+" (content)") || !strings.Contains(c.Error.Hint, "mxcert deploy mx") {
			t.Errorf("status, exit code %d: %+v, %+v", got.code, c, c.Error)
		}
	}
	says()
	if n := h.events("healed"); n != pass.MaxRepairs || strings.Count(d.log.String(), alarm) != 1 {
		t.Errorf("%d heals, log:\n%s", n, d.log)
	}
	if text, err := os.ReadFile(h.Path("failed")); err != nil || string(text) != "failed\n" {
		t.Errorf("the fail hooks ran %q, %v", text, err)
	}

	c := h.report(report.CodeOK, "deploy", "mx").Certificates[0]
	if !c.Changed || c.Stage != report.Served || h.orders() != 1 {
		t.Errorf("deploy by hand: %+v", c)
	}
	eventually(t, "the file is rewritten again", rewritten)
	says()
	renewed := h.report(report.CodeOK, "renew", "--now").Certificates[0]
	if !renewed.Changed || renewed.Keys[0].Serial == c.Keys[0].Serial {
		t.Errorf("renew by hand: %+v", renewed)
	}
	eventually(t, "the file is rewritten again", rewritten)
	d.stop()

	d = h.daemon()
	d.awaitLog(alarm)
	says()
	d.stop()
	close(stop)
	<-stopped
	store := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := store.Load()
	h.check(err)
	if len(record.Heals.At) != pass.MaxRepairs {
		t.Fatalf("heals: %v", record.Heals)
	}
	record.Heals.At[0] = record.Heals.At[0].Add(-time.Hour)
	h.check(store.Save(record))
	d = h.daemon()
	eventually(t, "it is healed in the next hour", func() bool { _, got := h.status(); return got.code == report.CodeOK })
	d.stop()
	if record, _, err = store.Load(); err != nil || len(record.Heals.At) != 1 || rewritten() {
		t.Errorf("heals: %v, %v", record.Heals, err)
	}
}

// threeHeals stores the record of a daemon that has healed as often as it does.
func (h *host) threeHeals() (heals state.Heals) {
	h.t.Helper()
	config, err := configs.Load(h.config)
	h.check(err)
	host, err := wanted.From(config)
	h.check(err)
	heals.Fingerprint = host.Certificates[0].Fingerprint()
	for range pass.MaxRepairs {
		heals.At = append(heals.At, time.Now().UTC())
	}
	store := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := store.Load()
	h.check(err)
	record.Heals = heals
	h.check(store.Save(record))
	return heals
}

// untilWell waits until status has nothing to say: the files have to be left alone for half a minute after a failure.
func (h *host) untilWell() {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r, got := h.status()
		if c := r.Certificates[0]; got.code == report.CodeOK && c.Error == nil && len(c.Warnings) == 0 {
			return
		} else if time.Now().After(deadline) {
			h.t.Fatalf("status shows a fault that is none any more: %+v", c)
		}
	}
}

// An operator who edits the configuration, to get out of the way of another tool, does not have to wait.
func TestEditEndsTheHold(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	h.report(report.CodeOK, "renew")
	h.threeHeals()
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	d := h.daemon()
	d.awaitLog("kind=drift")
	h.edit("/tls/mx.crt", "/tls/other.crt")
	eventually(t, "the certificate at its new path", func() bool { _, got := h.status(); return got.code == report.CodeOK })
	d.stop()
}

// Drift that ends by itself is forgotten: the operator has put the files back.
func TestDriftThatEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	h.threeHeals()
	good, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("garbage"), 0o640))
	d := h.daemon()
	d.awaitLog("kind=drift")
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), good, 0o640))
	h.untilWell()
	d.stop()
}

// A server that shows another certificate though the files are right is not told without end either.
func TestServerThatShowsAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	deployed := func(before string, args ...string) (files [2]string) {
		go reloadWhenChanged(h, before)
		h.report(report.CodeOK, args...)
		for i, name := range []string{"mx.crt", "mx.key"} {
			text, err := os.ReadFile(h.Path("tls", name))
			h.check(err)
			files[i] = string(text)
		}
		return files
	}
	put := func(files [2]string) {
		h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte(files[0]), 0o640))
		h.check(os.WriteFile(h.Path("tls", "mx.key"), []byte(files[1]), 0o640))
	}
	first := deployed("", "renew")
	second := deployed(first[0], "renew", "--now")
	put(first)
	h.check(h.SMTP.Reload())
	put(second)
	h.threeHeals()
	d := h.daemon()
	d.awaitLog("stage=verify kind=drift")
	d.stop()
	if r, got := h.status(); got.code != report.CodeNotInService || r.Certificates[0].Error.Kind != "drift" {
		t.Errorf("status: exit code %d, %+v", got.code, r.Certificates[0].Error)
	}
}

package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// otherLayout writes the certificate to another kind of place; DIR is where the lab's files are.
func (h *host) otherLayout(target string) {
	h.t.Helper()
	text := h.text()
	i := strings.Index(text, "files: {")
	end := i + strings.Index(text[i:], "\n")
	h.write(text[:i] + strings.ReplaceAll(target, "DIR", h.Path("tls")) + text[end:])
}

// Changes that others make to the files are found long before the hourly pass, and repaired without an order.
func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	type damage struct {
		name string
		do   func(dir string) error
	}
	for _, tt := range []struct {
		name, target string
		damages      []damage
	}{
		{"pair", "", []damage{
			{"key deleted", func(dir string) error { return os.Remove(dir + "/mx.key") }},
			{"mode", func(dir string) error { return os.Chmod(dir+"/mx.key", 0o604) }},
			{"certificate overwritten", func(dir string) error { return os.WriteFile(dir+"/mx.crt", []byte("garbage"), 0o640) }},
		}},
		{"moved", "", []damage{
			{"both moved away", func(dir string) error {
				return firstOf(os.Rename(dir+"/mx.key", dir+"/mx.key.dpkg-old"), os.Rename(dir+"/mx.crt", dir+"/mx.crt.dpkg-old"))
			}},
			{"directory made again", func(dir string) error {
				return firstOf(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o755))
			}},
		}},
		{"combined", `postfix: {combined: "DIR/chain.pem", reload: never}`, []damage{
			{"replaced", func(dir string) error {
				return firstOf(os.WriteFile(dir+"/new", []byte("garbage"), 0o640), os.Rename(dir+"/new", dir+"/chain.pem"))
			}},
		}},
		{"directory", `dovecot: {directory: "DIR/live", reload: never}`, []damage{
			{"link deleted", func(dir string) error { return os.Remove(dir + "/live") }},
			{"file of the generation", func(dir string) error { return os.Remove(dir + "/live/privkey.pem") }},
			{"generation made unreadable", func(dir string) error { return os.Chmod(dir+"/live/privkey.pem", 0o604) }},
		}},
		{"map", `exim: {combined: "DIR/{name}.{serial}.pem", sni_map: DIR/sni.map, reload: never, unchecked: true}`, []damage{
			{"map deleted", func(dir string) error { return os.Remove(dir + "/sni.map") }},
			{"map emptied", func(dir string) error { return os.Truncate(dir+"/sni.map", 0) }},
			{"file deleted", func(dir string) error {
				files, err := filepath.Glob(dir + "/mx.*.pem")
				return firstOf(err, os.Remove(files[0]))
			}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
			if tt.target != "" {
				h.otherLayout(tt.target)
			}
			d := h.daemon()
			d.awaitLog("sleeps")
			for i, damage := range tt.damages {
				h.check(damage.do(h.Path("tls")))
				eventually(t, damage.name+" is repaired", func() bool { return h.events("healed") == i+1 })
				eventually(t, damage.name+" in status", func() bool { return h.well() && h.look().Stage == report.Deployed })
			}
			d.stop()
			if n := d.log.count("files were changed by others"); n != len(tt.damages) || h.placed() != 1 {
				t.Errorf("woken %d times for %d damages, %d orders", n, len(tt.damages), h.placed())
			}
		})
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// What the daemon writes itself is no drift, of the certificate and of others that share a map with it.
func TestOwnDeploymentsAreNoDrift(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	layout := `exim: {combined: "DIR/{name}.{serial}.pem", sni_map: DIR/sni.map, reload: never, unchecked: true}`
	h.otherLayout(layout)
	h.edit("state: ", "  - name: other\n    domains: [\"lists.example.org\"]\n    deploy:\n      - "+strings.ReplaceAll(layout, "DIR", h.Path("tls"))+"\n    verify: {endpoints: []}\nstate: ")
	for _, name := range []string{"mx", "other"} {
		if c := h.passOver(name, pass.Options{}); c.Code != report.CodeOK {
			t.Fatalf("%+v", c.Error)
		}
	}
	d := h.daemon()
	eventually(t, "both asleep", func() bool { return d.log.count("sleeps") == 2 })
	h.asked(report.CodeOK, Order{Names: []string{"mx"}, Force: true})
	h.asked(report.CodeOK, Order{Names: []string{"other"}, Force: true})
	h.asked(report.CodeOK, Order{Names: []string{"mx"}, Rollback: true})
	h.check(os.WriteFile(h.Path("tls", "something"), nil, 0o600)) // of no concern
	time.Sleep(2 * time.Second)                                   // four times as long as the watch takes to report a change
	const told = `msg="files were changed by others" certificate=`
	if log := d.log.String(); strings.Contains(log, told) {
		t.Errorf("own changes are taken for those of others:\n%s", log)
	}
	h.check(os.Remove(h.Path("tls", "sni.map")))
	d.awaitLog(told + "mx")
	d.awaitLog(told + "other")
	eventually(t, "the map is back", func() bool {
		r, err := h.ask(Order{Look: true})
		return err == nil && r.ExitCode() == report.CodeOK
	})
	d.stop()
}

// What happens to the files before the pass that wrote them has ended is seen too.
func TestDriftDuringADeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	h.hook("deploy.d/10-other", `test -e "$lab/once" || { touch "$lab/once"; chmod 604 "$lab/tls/mx.key"; }`)
	d := h.daemon()
	eventually(t, "the mode is repaired", func() bool { return h.events("healed") == 1 })
	d.stop()
}

// calmsDown ends the half minute for which files must be left alone after a failure, as soon as it has started (how long it is,
// TestDriftWatchKeepsCalm says), and waits until status has nothing to say.
func (r *running) calmsDown(h *host) {
	h.t.Helper()
	drift := r.current().drift
	eventually(h.t, "a change after the failure", func() bool {
		drift.mu.Lock()
		defer drift.mu.Unlock()
		c := drift.watched["mx"]
		return c.uneasy && !c.busy && c.timer != nil && c.seen != nil && c.timer.Stop() && !c.timer.Reset(0)
	})
	eventually(h.t, "status without a fault", h.well)
}

// A directory that is gone is a failure, and reported; when it comes back with its files, all is well again.
func TestDirectoryGoneForAWhile(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	d := h.daemon()
	d.awaitLog("sleeps")
	h.check(os.Rename(h.Path("tls"), h.Path("away")))
	d.awaitLog(`msg="pass failed" certificate=mx stage=deploy`)
	h.check(os.Rename(h.Path("away"), h.Path("tls")))
	d.calmsDown(h)
	d.stop()
	if n := h.events("healed"); n != 0 {
		t.Errorf("%d repairs of files that were as they should be", n)
	}
}

// A program that rewrites a file all the time has its way after three repairs, and that is reported: once in the log, in status,
// and again after a restart. A person's own commands work all the same, and the daemon starts anew when the hour is over.
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
		if c := h.look(); c.Code != report.CodeNotInService || c.Error == nil || c.Error.Kind != "drift" ||
			!strings.Contains(c.Error.Message, "3 times") || !strings.Contains(c.Error.Message, h.Path("tls", "mx.crt")+" (content)") || !strings.Contains(c.Error.Hint, "mxcert deploy mx") {
			t.Errorf("status: %+v, %+v", c, c.Error)
		}
	}
	says()
	if n := h.events("healed"); n != pass.MaxRepairs || d.log.count(alarm) != 1 {
		t.Errorf("%d repairs, log:\n%s", n, d.log)
	}
	if text, err := os.ReadFile(h.Path("failed")); err != nil || string(text) != "failed\n" {
		t.Errorf("the fail hooks ran %q, %v", text, err)
	}

	c := h.asked(report.CodeOK, Order{DeployOnly: true})
	if !c.Changed || c.Stage != report.Served || h.placed() != 1 {
		t.Errorf("deploy by hand: %+v", c)
	}
	eventually(t, "the file is rewritten again", rewritten)
	says()
	renewed := h.asked(report.CodeOK, Order{Force: true})
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
	record := h.record()
	if len(record.Heals.At) != pass.MaxRepairs {
		t.Fatalf("repairs: %v", record.Heals)
	}
	record.Heals.At[0] = record.Heals.At[0].Add(-time.Hour)
	h.check(h.lineage().Save(record))
	d = h.daemon()
	eventually(t, "a repair in the next hour", func() bool { return h.look().Code == report.CodeOK })
	d.stop()
	if record := h.record(); len(record.Heals.At) != 1 || rewritten() {
		t.Errorf("repairs: %v", record.Heals)
	}
}

// threeRepairs stores the record of a daemon that has repaired as often as it does.
func (h *host) threeRepairs() (repairs state.Heals) {
	h.t.Helper()
	repairs.Fingerprint = h.wants().Certificates[0].Fingerprint()
	for range pass.MaxRepairs {
		repairs.At = append(repairs.At, time.Now().UTC())
	}
	record := h.record()
	record.Heals = repairs
	h.check(h.lineage().Save(record))
	return repairs
}

// An operator who edits the configuration, to get out of the way of another tool, does not have to wait.
func TestEditEndsTheHold(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	h.pass(report.CodeOK, pass.Options{})
	h.threeRepairs()
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	d := h.daemon()
	d.awaitLog("kind=drift")
	h.edit("/tls/mx.crt", "/tls/other.crt")
	eventually(t, "the certificate at its new path", func() bool { return h.look().Code == report.CodeOK })
	d.stop()
}

// Drift is forgotten when the operator has restored the files.
func TestDriftThatEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, pass.Options{})
	h.threeRepairs()
	good, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("garbage"), 0o640))
	d := h.daemon()
	d.awaitLog("kind=drift")
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), good, 0o640))
	d.calmsDown(h)
	d.stop()
}

// A server that shows another certificate though the files are right does not cause alarms without end either.
func TestServerThatShowsAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	deployed := func(before string, options pass.Options) (files [2]string) {
		go h.reloadWhenChanged(before)
		h.pass(report.CodeOK, options)
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
	first := deployed("", pass.Options{})
	second := deployed(first[0], pass.Options{Force: true, Asked: time.Now()})
	put(first)
	h.check(h.SMTP.Reload())
	put(second)
	h.threeRepairs()
	d := h.daemon()
	d.awaitLog("stage=verify kind=drift")
	d.stop()
	if c := h.look(); c.Code != report.CodeNotInService || c.Error.Kind != "drift" {
		t.Errorf("status: exit code %d, %+v", c.Code, c.Error)
	}
}

// reloadWhenChanged is the reload by an operator.
func (h *host) reloadWhenChanged(before string) {
	for h.t.Context().Err() == nil {
		now, err := os.ReadFile(h.Path("tls", "mx.crt"))
		if err == nil && string(now) != before {
			_ = h.SMTP.Reload() // what it cannot load, the handshakes show
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Passes that find the same hold again do not alarm again: neither in the log nor by the fail hooks.
func TestHoldIsToldOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, pass.Options{})
	h.hook("fail.d/10-note", `echo failed >>"$lab/failed"`)
	until := h.threeRepairs().At[0].Add(time.Hour).UTC().Truncate(time.Second).Add(time.Second)
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	d, log := h.atRest()
	w := d.current()
	for range 3 {
		r := d.pass(t.Context(), &order{workload: w, want: w.runner.Host.Certificates[0], options: pass.Options{Daemon: true, Woken: true}, log: d.log})
		if r.Error == nil || r.Error.Kind != "drift" || r.NextTry == nil || !r.NextTry.Equal(until) || !nextPass(r, time.Now()).Equal(until) {
			t.Errorf("%+v, again at %v, want %v", r.Error, r.NextTry, until)
		}
	}
	text, err := os.ReadFile(h.Path("failed"))
	if n := log.count("level=ERROR"); err != nil || string(text) != "failed\n" || n != 1 || log.count("the files are left alone") != 2 {
		t.Errorf("%d alarms in the log; the hooks ran %q, %v:\n%s", n, text, err, log)
	}
}

package pass

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy"
	"mxcert/deploy/served"
	"mxcert/hooks/unit"

	"mxcert/cmd/mxcert/internal/report"
)

// activation is a pass that has deployed files and is about to make servers use them, in a time; units are reloaded by the test.
func activation(t *testing.T, options lab.Options, targets, timeout string, job func(h *host, unit string) error) (*host, *pass) {
	t.Helper()
	h := newHost(t, options, lab.ConfigOptions{Endpoints: []string{}})
	h.pass(report.CodeOK, renew)
	if options.Preload {
		h.check(h.SMTP.Reload())
		h.pass(report.CodeOK, atOnce)
	}
	h.edit("endpoints: [], timeout: 30s", fmt.Sprintf("endpoints: [%q], timeout: %s", h.SMTP.Address(), timeout))
	text := h.text()
	from := strings.Index(text, "      - files: {")
	line, rest, _ := strings.Cut(text[from:], "\n")
	var places strings.Builder
	for i, target := range strings.Split(targets, ", ") {
		name, way, _ := strings.Cut(target, " ")
		settings := fmt.Sprintf(", unit: %s, reload: %s", name, way)
		if name == "" {
			settings = ""
		}
		places.WriteString(strings.Replace(strings.ReplaceAll(line, "/mx.", fmt.Sprintf("/mx%s.", []string{"", "2"}[i])), "}", settings+"}", 1) + "\n")
	}
	h.write(text[:from] + places.String() + rest)
	r := h.runner()
	r.reloads.job = func(_ context.Context, name string) error { return job(h, name) }
	p := &pass{Runner: r, want: r.Host.Certificates[0], say: h.say, lineage: h.lineage(), have: h.have()}
	if err := p.compare(t.Context(), p.have.Bundles); err != nil {
		t.Fatal(err)
	}
	return h, p
}

// Which units are reloaded, when, and what their answers come to.
func TestActivate(t *testing.T) {
	t.Parallel()
	inactive := func(name string) error { return &unit.Error{Unit: name, Result: "inactive"} }
	for _, tt := range []struct {
		what     string
		options  lab.Options
		targets  string
		job      func(h *host, name string) error
		reloads  []string
		stage    string // of the error; "" for success
		says     string // the error, or a warning
		noticing bool   // it waits for servers to notice the files
	}{
		{what: "a reload makes the server load the files", options: lab.Options{Preload: true}, targets: "exim4.service always",
			job: func(h *host, _ string) error { return h.SMTP.Reload() }, reloads: []string{"exim4.service"}},
		{what: "a server that notices is not reloaded", targets: "exim4.service auto", noticing: true},
		{what: "a server that does not notice is reloaded", options: lab.Options{Preload: true}, targets: "exim4.service auto",
			job: func(h *host, _ string) error { return h.SMTP.Reload() }, reloads: []string{"exim4.service"}, noticing: true},
		{what: "always comes before auto", targets: "exim4.service auto, dovecot.service always",
			job: func(*host, string) error { return nil }, reloads: []string{"dovecot.service"}, noticing: true},
		{what: "never", targets: "exim4.service never"},
		{what: "one of two is not running", targets: "exim4.service always, dovecot.service always", job: func(_ *host, name string) error {
			if name == "dovecot.service" {
				return inactive(name)
			}
			return nil
		}, reloads: []string{"dovecot.service", "exim4.service"}, says: "unit dovecot.service: it is not active"},
		{what: "none is running", targets: "exim4.service always", job: func(_ *host, name string) error { return inactive(name) },
			reloads: []string{"exim4.service"}, stage: "reload", says: "it is not active"},
		{what: "the reload fails", targets: "exim4.service always", job: func(_ *host, name string) error { return &unit.Error{Unit: name, Result: "failed"} },
			reloads: []string{"exim4.service"}, stage: "reload", says: "the reload command failed"},
		{what: "the reload has no effect", options: lab.Options{Preload: true}, targets: "exim4.service always", job: func(*host, string) error { return nil },
			reloads: []string{"exim4.service"}, stage: "verify", says: "shows another certificate"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var reloads []string
			timeout := "30s"
			if tt.stage == "verify" {
				timeout = "3s"
			}
			h, p := activation(t, tt.options, tt.targets, timeout, func(h *host, name string) error {
				mu.Lock()
				reloads = append(reloads, name)
				mu.Unlock()
				return tt.job(h, name)
			})
			err := p.activate(t.Context())
			if report.StageOf(err) != tt.stage || (err != nil) != (tt.stage != "") {
				t.Errorf("stage %q: %v", report.StageOf(err), err)
			}
			if said := fmt.Sprint(err, p.warnings); !strings.Contains(said, tt.says) || err == nil && (len(p.warnings) > 0) != (tt.says != "") {
				t.Errorf("error %v, warnings %q", err, p.warnings)
			}
			slices.Sort(reloads)
			if !slices.Equal(reloads, tt.reloads) || h.heard("to notice the files") != tt.noticing {
				t.Errorf("reloaded: %q, said %q", reloads, h.said)
			}
		})
	}
}

// touched is a plan of which only the touch counts: a real one does not show that a server has looked again.
type touched struct {
	touch func() error
}

func (touched) Summary() deploy.Summary                { return deploy.Summary{} }
func (touched) Apply(func(string, []byte) error) error { return errBoom }
func (touched) ApplyNew() ([]string, error)            { return nil, errBoom }
func (touched) Revert() error                          { return errBoom }
func (p touched) Touch() error                         { return p.touch() }

// A server that answers 454 though the files are right is made to look again; others are left alone.
func TestCure(t *testing.T) {
	t.Parallel()
	sick := smtpd.Faults{Replies: map[smtpd.Step]string{smtpd.STARTTLS: "454 TLS currently unavailable\r\n"}}
	for _, tt := range []struct {
		what   string
		faults smtpd.Faults
		touch  error
		cured  bool
		looks  int
	}{
		{"454", sick, nil, true, 1},
		{"454, and the directory cannot be touched", sick, errBoom, false, 1},
		{"no STARTTLS", smtpd.Faults{NoStartTLS: true}, nil, false, 0},
	} {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		h.pass(report.CodeOK, renew)
		p := h.begin(renew)
		h.SMTP.SetFaults(tt.faults)
		err := p.await(t.Context(), time.Second, served.Matching)
		if err == nil {
			t.Fatalf("%s: the server is well", tt.what)
		}
		if got := p.cure(t.Context(), err); got != err {
			t.Errorf("%s: cured without files: %v", tt.what, got)
		}
		looks := 0
		p.plan = touched{func() error {
			looks++
			h.SMTP.SetFaults(smtpd.Faults{})
			return tt.touch
		}}
		if got := p.cure(t.Context(), err); (got == nil) != tt.cured || !tt.cured && !errors.Is(got, err) || looks != tt.looks || tt.touch != nil && !errors.Is(got, tt.touch) {
			t.Errorf("%s: %v, touched %d times", tt.what, got, looks)
		}
	}
}

// watcher is the daemon's side of a pass.
type watcher struct {
	t     *testing.T
	calls []string
	left  map[string]string
}

func (w *watcher) Begin(name string) { w.calls = append(w.calls, "begin "+name) }

func (w *watcher) Left(_ string, prints map[string]string) {
	w.calls, w.left = append(w.calls, "left"), prints
}

func (w *watcher) Wrote(_ string, before, after map[string]string) {
	if len(before) != len(after) || fmt.Sprint(before) == fmt.Sprint(after) {
		w.t.Errorf("nothing was written: %v, %v", before, after)
	}
	w.calls = append(w.calls, "wrote")
}

func (w *watcher) End(_ string, outOfService bool) {
	w.calls = append(w.calls, fmt.Sprintf("end %v", outOfService))
}

// Who watches the files is told when a pass is at work, what it wrote, and how it left them.
func TestDriftIsTold(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	for _, tt := range []struct {
		what    string
		prepare func()
		want    string
		code    report.Code
	}{
		{"a first deployment", func() {}, "begin mx, left, wrote, left, left, end false", report.CodeOK},
		{"nothing to do", func() {}, "begin mx, left, end false", report.CodeOK},
		{"a repair", func() { o.put("tls/mx.crt", "garbage") }, "begin mx, left, wrote, left, left, end false", report.CodeOK},
		{"it cannot be deployed", func() { o.check(os.RemoveAll(o.Path("tls"))) }, "begin mx, left, end true", report.CodeNotInService},
	} {
		w := &watcher{t: t}
		o.drift = w
		tt.prepare()
		o.pass(tt.code, Options{Daemon: true, DeployOnly: true})
		if got := strings.Join(w.calls, ", "); got != tt.want || len(w.left) != 2 {
			t.Errorf("%s: %s, want %s; left %v", tt.what, got, tt.want, w.left)
		}
	}
}

// What something else changes while the pass proves its deployment is for the next pass.
func TestCompareAgain(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	w := &watcher{t: t}
	o.drift = w
	o.pass(report.CodeOK, deployOnly)
	p := o.begin(deployOnly)
	o.check(os.Chmod(o.Path("tls", "mx.key"), 0o604))
	p.compareAgain(t.Context())
	if print := w.left[o.Path("tls", "mx.key")]; print != "not what was written" {
		t.Errorf("left: %v", w.left)
	}
	if print := w.left[o.Path("tls", "mx.crt")]; print == "" || print == "not what was written" {
		t.Errorf("left: %v", w.left)
	}
}

// A repair by the daemon is counted, and the fourth in an hour is not made; the hold ends what the pass reports.
func TestRepairsEnd(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.hook("fail.d/note", note)
	o.pass(report.CodeOK, deployOnly)
	daemon := Options{Daemon: true, DeployOnly: true}
	for i := range MaxRepairs {
		o.put("tls/mx.crt", "garbage")
		if c := o.pass(report.CodeOK, daemon); !c.Changed || len(o.record().Heals.At) != i+1 {
			t.Fatalf("repair %d: %+v", i+1, c)
		}
	}
	o.put("tls/mx.crt", "garbage")
	for i := range 2 {
		c := o.pass(report.CodeNotInService, daemon)
		if c.Error.Kind != "drift" || c.Changed || c.HeldUntil.IsZero() || c.NextTry == nil || !c.NextTry.Equal(c.HeldUntil) || !c.HeldOnly || !c.OutOfService {
			t.Errorf("held: %+v, %+v", c, c.Error)
		}
		if told := len(o.ran()); told != 1-i {
			t.Errorf("pass %d: the fail hook ran %d times", i, told)
		}
	}
	if c := o.look(report.CodeNotInService); c.Error.Kind != "drift" {
		t.Errorf("a look: %+v", c.Error)
	}
	o.edit("timeout: 1s", "timeout: 2s")
	if c := o.pass(report.CodeOK, daemon); !c.Changed || len(o.record().Heals.At) != 1 {
		t.Errorf("after an edit: %+v", c)
	}
	o.put("tls/mx.crt", "garbage")
	if c := o.pass(report.CodeOK, deployOnly); !c.Changed || len(o.record().Heals.At) != 1 {
		t.Errorf("a person: %+v", c)
	}
}

// Files that are right, and a server that shows another certificate: it is made to look, which counts as a repair.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		options Options
		during  func(*host) // some time after the first looks have failed
		before  func(*host)
		code    report.Code
		kind    string
		changed bool
		says    bool // that the server shows another certificate
	}{
		{what: "it reloads after all", options: byDaemon, during: func(h *host) { _ = h.SMTP.Reload() }, code: report.CodeOK, changed: true, says: true},
		{what: "it does not", options: byDaemon, code: report.CodeNotInService, kind: "not-served", changed: true, says: true},
		{what: "it never does", options: byDaemon, before: func(h *host) {
			now := time.Now().UTC()
			h.remember(func(r *state.Record) {
				r.Heals = state.Heals{At: []time.Time{now, now, now}, Fingerprint: h.want().Fingerprint()}
			})
		}, code: report.CodeNotInService, kind: "drift"},
		{what: "a closed port", options: renew, before: func(h *host) {
			h.check(h.SMTP.Close())
			h.keepClosed(h.SMTP.Address())
		}, code: report.CodeNotInService, kind: "connection-refused"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{Endpoints: []string{}})
			h.pass(report.CodeOK, renew)
			h.check(h.SMTP.Reload())
			h.pass(report.CodeOK, atOnce)
			h.edit("endpoints: [], timeout: 30s", fmt.Sprintf("endpoints: [%q], timeout: 4s", h.SMTP.Address()))
			if tt.before != nil {
				tt.before(h)
			}
			if tt.during != nil {
				timer := time.AfterFunc(confirmPatience+500*time.Millisecond, func() { tt.during(h) })
				t.Cleanup(func() { timer.Stop() })
			}
			healed := len(h.events())
			c := h.pass(tt.code, tt.options)
			if c.Changed != tt.changed || h.heard("the files are right, but the server shows another certificate") != (tt.says || tt.kind == "drift") || (c.Error != nil) != (tt.kind != "") || c.Error != nil && (c.Error.Kind != tt.kind || c.Error.Stage != "verify") {
				t.Errorf("%+v, %+v, %q", c, c.Error, h.said)
			}
			if events := h.events()[healed:]; tt.code == report.CodeOK && (!slices.Contains(events, "healed") || len(h.record().Heals.At) != 1) {
				t.Errorf("history: %q, repairs %v", events, h.record().Heals)
			}
		})
	}
}

// A server that was not told to read the files, and that nothing can reload, is not waited for as long as one that has just got new files.
func TestNothingToWaitFor(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{Endpoints: []string{}})
	h.pass(report.CodeOK, renew)
	h.check(h.SMTP.Reload())
	h.pass(report.CodeOK, atOnce)
	h.edit("endpoints: [], timeout: 30s", fmt.Sprintf("endpoints: [%q], timeout: 1m", h.SMTP.Address()))
	if c := h.pass(report.CodeNotInService, byDaemon); !h.heard("waits up to 8s") || h.heard("waits up to 1m") || c.Error == nil || c.Error.Kind != "not-served" {
		t.Errorf("%+v, %q", c.Error, h.said)
	}
}

// A pass that waits for an endpoint says so, and for how long; one that need not wait says nothing.
func TestWaitIsAnnounced(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{Endpoints: []string{}})
	h.pass(report.CodeOK, Options{})
	h.edit("endpoints: [], timeout: 30s", fmt.Sprintf("endpoints: [%q], timeout: 4s", h.SMTP.Address()))
	h.check(h.SMTP.Reload())
	if h.pass(report.CodeOK, Options{Force: true, DeployOnly: true}); h.heard("waits up to") {
		t.Errorf("%q", h.said)
	}
	c := h.pass(report.CodeNotInService, Options{Force: true}) // nothing reloads the server
	if !h.heard("waits up to 4s until "+h.SMTP.Address()+" shows the certificate") || c.Error == nil {
		t.Errorf("%q", h.said)
	}
}

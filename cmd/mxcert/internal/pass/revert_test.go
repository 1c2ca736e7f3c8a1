package pass

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/hooks/unit"

	"mxcert/cmd/mxcert/internal/report"
)

// The ways back from a deployment that failed, and when there is none.
func TestRevert(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		prepare func(*offline)
		cause   error
		back    string // the files then: "first", "second" or "garbage"
		says    string
		event   string
	}{
		{"to the good files that were there", func(o *offline) { o.issued(); o.pass(report.CodeOK, deployOnly) }, errBoom, "first",
			"boom; the previous certificate is back in service", "reverted"},
		{"to what was proven last, because the files are no certificate", func(o *offline) {
			o.issued()
			o.pass(report.CodeOK, deployOnly)
			o.put("tls/mx.crt", "garbage")
		}, errBoom, "first", "boom; the previous certificate is back in service", "reverted"},
		{"nothing was there", func(*offline) {}, errBoom, "second", "the new files stay, because there is nothing better to go back to", "failed"},
		{"what was there is no certificate, and nothing was in service", func(o *offline) {
			o.put("tls/mx.crt", "garbage")
			o.put("tls/mx.key", "garbage")
		}, errBoom, "second", "no other certificate was in service before", "failed"},
		{"the server is not running", func(o *offline) { o.issued(); o.pass(report.CodeOK, deployOnly) }, &unit.Error{Unit: "exim4.service", Result: "inactive"}, "second",
			"the new files are in place; the server reads them when it starts", ""},
	} {
		o := newOffline(t)
		tt.prepare(o)
		files := map[string]string{}
		if text, err := os.ReadFile(o.Path("tls", "mx.key")); err == nil && tt.back == "first" {
			files["first"] = string(text)
		}
		b := o.sign(bundle.EC256, nil, nil)
		o.keep(b, time.Now())
		files["second"] = string(b.KeyPEM())
		p := o.begin(deployOnly)
		o.check(p.compare(t.Context(), p.have.Bundles))
		o.check(p.plan.Apply(p.keepDisplaced))
		p.changed = true
		before := len(p.have.Record.Events)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a stop must not leave a deployment half proven
		err := p.revert(ctx, tt.cause)
		if !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.what, err)
		}
		if o.file("mx.key") != files[tt.back] {
			t.Errorf("%s: the files are not the %s ones", tt.what, tt.back)
		}
		if _, err := bundle.Parse([]byte(o.file("mx.crt")), []byte(o.file("mx.key"))); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		event := ""
		if events := p.have.Record.Events[before:]; len(events) > 0 {
			event = events[0].Event
		}
		if event != tt.event || p.changed != (tt.event != "reverted") {
			t.Errorf("%s: the history has %q, changed %v", tt.what, event, p.changed)
		}
	}
}

// The way back is proven too: by any other certificate than the one that was taken back.
func TestRevertIsProven(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		faults smtpd.Faults
		says   string
	}{
		{"the server shows the old one", smtpd.Faults{}, "the previous certificate is back in service"},
		{"the server is out of order", smtpd.Faults{NoStartTLS: true}, "the old files are back, but the server does not show the old certificate"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			first := h.pass(report.CodeOK, renew)
			second := h.pass(report.CodeOK, atOnce)
			h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte(h.chainOf(first.Keys[0].Serial)), 0o640))
			p := h.begin(deployOnly)
			h.check(p.compare(t.Context(), p.have.Bundles))
			h.check(p.plan.Apply(p.keepDisplaced))
			if h.served() != second.Keys[0].Serial {
				t.Fatal("the second certificate is not deployed")
			}
			h.SMTP.SetFaults(tt.faults)
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // the proof has its own time
			if err := p.revert(ctx, errBoom); !strings.Contains(err.Error(), tt.says) || h.served() != first.Keys[0].Serial {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took > revertPatience+20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// chainOf is a stored chain.
func (h *host) chainOf(serial string) string {
	h.t.Helper()
	all, err := h.lineage().Generations()
	h.check(err)
	for _, g := range all {
		if g.Serial == serial {
			text, err := os.ReadFile(filepath.Join(h.lineage().Directory(g.ID), "fullchain.pem"))
			h.check(err)
			return string(text)
		}
	}
	h.t.Fatalf("no certificate has the serial %s", serial)
	return ""
}

// A deployment that fails half way is taken back by the plan; nothing is half done then.
func TestDeployFails(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	p := o.begin(deployOnly)
	o.check(p.compare(t.Context(), p.have.Bundles))
	o.check(os.RemoveAll(o.Path("tls")))
	err := p.deploy(t.Context())
	if err == nil || report.StageOf(err) != "deploy" || o.record().Applying {
		t.Errorf("%v, half done: %v", err, o.record().Applying)
	}
}

// What a deployment replaces is kept once, unless this lineage has issued it.
func TestKeepDisplaced(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	g := o.issued()
	p := o.begin(deployOnly)
	b, err := o.lineage().Bundle(g.ID)
	o.check(err)
	foreign := o.sign(bundle.EC256, nil, nil)
	for _, tt := range []struct {
		what    string
		content []byte
		kept    int // then
	}{
		{"its chain", b.FullchainPEM(), 0},
		{"its key", b.KeyPEM(), 0},
		{"both in one file", b.CombinedPEM(), 0},
		{"the chain of another", foreign.FullchainPEM(), 1},
		{"the same again", foreign.FullchainPEM(), 1},
		{"the key of another", foreign.KeyPEM(), 2},
		{"nothing", nil, 3},
	} {
		if err := p.keepDisplaced(o.Path("tls", "mx.crt"), tt.content); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		kept, err := filepath.Glob(o.Path("state", "lineages", "mx", "displaced", "*"))
		if err != nil || len(kept) != tt.kept {
			t.Errorf("%s: kept are %q, %v", tt.what, kept, err)
		}
		if tt.kept > 0 && !o.heard("is kept as "+kept[0]) {
			t.Errorf("%s: said %q", tt.what, o.said)
		}
	}
}

// Files that the daemon has repaired often enough are left alone, but not against a person's wish or a half-done deployment.
func TestWhatIsARepair(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	g := o.issued()
	var repairs []time.Time
	for i := range MaxRepairs {
		repairs = append(repairs, time.Now().Add(time.Duration(i-30)*time.Minute).UTC())
	}
	for _, tt := range []struct {
		what    string
		options Options
		change  func(*pass)
		repairs bool
	}{
		{"the hourly pass", byDaemon, func(*pass) {}, true},
		{"woken by the files", Options{Daemon: true, Woken: true}, func(*pass) {}, true},
		{"a person", renew, func(*pass) {}, false},
		{"a new certificate", byDaemon, func(p *pass) { p.issued = true }, false},
		{"a deployment that was interrupted", byDaemon, func(p *pass) { p.have.Record.Applying = true }, false},
		{"a certificate that was never in service", byDaemon, func(p *pass) { p.have.Record.Slot(g.Key).Served = "" }, false},
		{"such a certificate, woken by the files", Options{Daemon: true, Woken: true}, func(p *pass) { p.have.Record.Slot(g.Key).Served = "" }, true},
	} {
		p := &pass{Runner: o.runner(), want: o.want(), options: tt.options, say: o.say, lineage: o.lineage(), have: o.have()}
		tt.change(p)
		p.repaired()
		if n := len(p.have.Record.Heals.At); (n == 1) != tt.repairs {
			t.Errorf("%s: %d repairs are noted", tt.what, n)
		}
		if err := p.mayRepair("x"); err != nil {
			t.Errorf("%s, after one: %v", tt.what, err)
		}
		p.have.Record.Heals = state.Heals{At: repairs, Fingerprint: p.want.Fingerprint()}
		err := p.mayRepair("x")
		if (err != nil) != tt.repairs || !p.heldUntil.IsZero() != tt.repairs || tt.repairs && p.heldUntil.Before(repairs[0].Add(repairHour)) {
			t.Errorf("%s, after %d: %v, until %v", tt.what, MaxRepairs, err, p.heldUntil)
		}
		p.have.Record.Heals.Fingerprint = "older"
		if err := p.mayRepair("x"); err != nil {
			t.Errorf("%s, after an edit: %v", tt.what, err)
		}
	}
}

// What is said of a fight over files, and of files that changed during a deployment.
func TestDriftInWords(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	file := &driftError{name: "mx", what: "/etc/exim4/mx.crt (content), /etc/exim4/mx.key (missing)", count: 3, since: since, until: since.Add(time.Hour)}
	if r := report.NewError(file); r.Kind != "drift" || r.Message != "something else keeps changing what mxcert has repaired 3 times since 2026-05-01 12:00:00 UTC: "+file.what+"; the daemon leaves it alone until 2026-05-01 13:00:00 UTC" ||
		!strings.Contains(r.Hint, "mxcert deploy mx") || !strings.Contains(r.Hint, "auditctl -w /etc/exim4 -p wa") {
		t.Errorf("%+v", r)
	}
	server := &driftError{name: "mx", what: "the files are right, but the server shows another certificate"}
	if hint := server.Hint(); strings.Contains(hint, "auditctl") || !strings.HasSuffix(hint, "mxcert deploy mx") {
		t.Errorf("%q", hint)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mx.crt")
	if err := changedSince(map[string]string{path: "as it was written"}, errBoom); !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "boom; something else has changed "+path) ||
		!strings.Contains(report.HintOf(err), "auditctl -w "+dir) {
		t.Errorf("%v", err)
	}
	if err := changedSince(nil, errBoom); !errors.Is(err, errBoom) || err.Error() != "boom" {
		t.Errorf("%v", err)
	}
}

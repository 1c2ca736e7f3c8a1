package pass

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/deadline"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// What the two halves of a pass make of stage, exit code and the next try.
func TestVerdict(t *testing.T) {
	t.Parallel()
	held := report.At("order", &schedule.Held{Until: time.Now().Add(3 * time.Hour).UTC().Truncate(time.Second), Why: "the limit is reached"})
	away := report.At("directory", &fault{text: "the CA is away", kind: "ca-unreachable", temporary: true})
	refused := report.At("challenge", &fault{text: "the CA refuses", kind: "challenge", charged: true})
	preHook := report.At("hook", errBoom)
	notWritable := report.At("deploy", &fault{text: "no permission", kind: "permission"})
	notShown := report.At("verify", &fault{text: "another certificate", kind: "not-served"})
	closed := report.At("verify", &fault{text: "connection refused", kind: "connection-refused", temporary: true})
	type words struct {
		stage   report.Stage
		code    report.Code
		of      string // the step that the error names
		failure bool   // is recorded
		again   bool   // the daemon tries again at a certain time
		order   bool   // the next renewal is that try
	}
	for _, tt := range []struct {
		what         string
		issue, serve error
		none         words // nothing was ever issued
		some         words // a certificate is issued, and the files hold it
	}{
		{"all is well", nil, nil, words{report.Failed, report.CodeFailed, "deploy", true, true, true}, words{report.Deployed, report.CodeOK, "", false, false, false}},
		{"the order is held back", held, nil, words{report.Waiting, report.CodeTemporary, "order", false, true, true}, words{report.Waiting, report.CodeTemporary, "order", false, true, true}},
		{"the CA is away", away, nil, words{report.Waiting, report.CodeTemporary, "directory", true, true, true}, words{report.Waiting, report.CodeTemporary, "directory", true, true, true}},
		{"the CA refuses", refused, nil, words{report.Failed, report.CodeFailed, "challenge", true, true, true}, words{report.Failed, report.CodeFailed, "challenge", true, true, true}},
		{"a pre hook fails", preHook, nil, words{report.Failed, report.CodeFailed, "hook", true, true, true}, words{report.Deployed, report.CodeFailed, "hook", true, true, true}},
		{"the target cannot be written, seen before the order", notWritable, nil, words{report.Failed, report.CodePermission, "deploy", true, true, true}, words{report.Deployed, report.CodeNotInService, "deploy", true, true, true}},
		{"the target cannot be written", nil, notWritable, words{report.Failed, report.CodePermission, "deploy", true, true, false}, words{report.Deployed, report.CodeNotInService, "deploy", true, true, false}},
		{"the server shows another", nil, notShown, words{report.Failed, report.CodeFailed, "verify", true, true, false}, words{report.Deployed, report.CodeNotInService, "verify", true, true, false}},
		{"the port is closed", nil, closed, words{report.Failed, report.CodeTemporary, "verify", true, true, false}, words{report.Deployed, report.CodeNotInService, "verify", true, true, false}},
		{"both fail: what senders see is worse", away, notShown, words{report.Failed, report.CodeFailed, "verify", true, true, true}, words{report.Deployed, report.CodeNotInService, "verify", true, true, true}},
		{"held back, and not shown", held, notShown, words{report.Failed, report.CodeFailed, "verify", true, true, true}, words{report.Deployed, report.CodeNotInService, "verify", true, true, true}},
	} {
		for _, issued := range []bool{false, true} {
			o, want := newOffline(t), tt.none
			if issued {
				o.issued()
				o.pass(report.CodeOK, deployOnly)
				want = tt.some
			}
			p := o.begin(renew)
			p.settle()
			r := p.conclude(t.Context(), tt.issue, tt.serve)
			got := words{stage: r.Stage, code: r.Code, failure: o.record().Failure != nil, again: r.NextTry != nil, order: r.NextTry != nil && r.NextRenewal == r.NextTry}
			if r.Error != nil {
				got.of = r.Error.Stage
			}
			if got != want || r.OutOfService != (tt.serve != nil) {
				t.Errorf("%s, something is issued: %v: %+v, want %+v; out of service: %v", tt.what, issued, got, want, r.OutOfService)
			}
			if f := o.record().Failure; want.failure && (!f.NotBefore.Equal(*r.NextTry) || f.Stage != r.Error.Stage || f.Kind != r.Error.Kind) {
				t.Errorf("%s: the record has %+v, the report %+v, again at %v", tt.what, f, r.Error, r.NextTry)
			}
		}
	}
}

// A pass that was stopped has not failed: there is nothing to back off from.
func TestStopIsNoFailure(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.hook("fail.d/note", note)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := o.begin(byDaemon)
	p.issued = true
	r := p.conclude(ctx, p.unproven(ctx), nil)
	if r.Error.Kind != "interrupted" || r.Error.Stage != "deploy" || r.Code != report.CodeNotInService || r.NextTry != nil || o.record().Failure != nil || len(o.ran()) > 0 {
		t.Errorf("%+v, %+v", r, r.Error)
	}
}

// The success of a pass moves what was served to what can be rolled back to, once.
func TestSuccessIsNoted(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.hook("deploy.d/note", note)
	first := o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(-2*time.Hour))
	if c := o.pass(report.CodeOK, deployOnly); !c.Changed || c.Stage != report.Deployed {
		t.Fatalf("%+v", c)
	}
	slot := o.slot(bundle.EC256)
	if slot.Served != first.ID || slot.Previous != "" || !slices.Equal(o.events(), []string{"deployed"}) || len(o.ran()) != 1 {
		t.Errorf("first: %+v, %q", slot, o.events())
	}
	second := o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(-time.Hour))
	o.pass(report.CodeOK, deployOnly)
	if slot = o.slot(bundle.EC256); slot.Served != second.ID || slot.Previous != first.ID || len(o.ran()) != 1 {
		t.Errorf("second: %+v", slot)
	}
	o.pass(report.CodeOK, rollback)
	if slot = o.slot(bundle.EC256); slot.Served != first.ID || slot.Current != first.ID || slot.Previous != second.ID || !slot.RolledBack || o.served() != first.Serial {
		t.Errorf("rolled back: %+v", slot)
	}
	o.pass(report.CodeOK, deployOnly)
	if slot = o.slot(bundle.EC256); slot.Served != second.ID || slot.Previous != first.ID || slot.RolledBack || o.served() != second.Serial {
		t.Errorf("forward again: %+v", slot)
	}
	o.check(os.Remove(o.Path("tls", "mx.key")))
	o.pass(report.CodeOK, deployOnly)
	if got := o.events(); !slices.Equal(got, []string{"deployed", "deployed", "rolled-back", "deployed", "rolled-forward", "deployed", "healed"}) {
		t.Errorf("history: %q", got)
	}
	if last := o.record().Events[6]; last.Message != o.Path("tls", "mx.key")+" (missing)" {
		t.Errorf("what was put right: %+v", last)
	}
}

// Only the key type whose files were damaged is put right.
func TestHealedOfTwoKeyTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	before := len(h.record().Events)
	h.check(os.Remove(h.Path("tls", "mx.rsa2048.crt")))
	h.pass(report.CodeOK, renew)
	events := h.record().Events[before:]
	if len(events) != 1 || events[0].Event != "healed" || events[0].Key != bundle.RSA2048 || !strings.Contains(events[0].Message, "mx.rsa2048.crt (missing)") {
		t.Errorf("%+v", events)
	}
}

// A pass with nothing to do leaves the record alone, but for once an hour.
func TestNothingIsWritten(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.pass(report.CodeOK, deployOnly)
	record := filepath.Join(o.Path("state", "lineages", "mx"), "record.json")
	text := func() string {
		text, err := os.ReadFile(record)
		o.check(err)
		return string(text)
	}
	before := text()
	o.pass(report.CodeOK, deployOnly)
	if text() != before {
		t.Errorf("the record was written:\n%s\nit was\n%s", text(), before)
	}
	for what, last := range map[string]time.Time{"an hour ago": time.Now().Add(-time.Hour), "of a clock that was ahead": time.Now().Add(time.Hour)} {
		o.remember(func(r *state.Record) { r.LastSuccess = last })
		o.pass(report.CodeOK, deployOnly)
		if got := o.record().LastSuccess; time.Since(got).Abs() > time.Minute {
			t.Errorf("%s: the last success is of %s", what, got)
		}
	}
}

// Old generations go; those in use and the newest three stay.
func TestOldGenerationsGo(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	oldest := o.issued()
	for i := range 5 {
		o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(time.Duration(i-50)*time.Minute))
	}
	o.pass(report.CodeOK, deployOnly)
	if left := o.generationsOf(bundle.EC256); len(left) != keepGenerations+1 || left[0] != o.lineage().Directory(oldest.ID) {
		t.Errorf("left: %q", left)
	}
}

// A store that cannot be written is an error of its own, though the certificate is in service.
func TestRecordCannotBeWritten(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	p := o.begin(deployOnly)
	o.check(p.serve(t.Context()))
	lineage := o.Path("state", "lineages", "mx")
	o.check(os.RemoveAll(lineage))
	o.check(os.WriteFile(lineage, nil, 0o600)) // in the way of all records
	if r := p.conclude(t.Context(), nil, nil); r.Error == nil || r.Error.Stage != "store" || r.Stage != report.Failed || r.Code != report.CodeFailed {
		t.Errorf("%+v, %+v", r, r.Error)
	}
}

// What a report says of a certificate, whatever came of the pass.
func TestDescribe(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.edit("keys: [ec256]", "keys: [ec256, rsa2048]")
	o.edit("/tls/mx.crt", "/tls/{key}.crt")
	o.edit("/tls/mx.key", "/tls/{key}.key")
	if r := Describe(o.want(), o.have()); len(r.Keys) != 0 || r.NextRenewal != nil || len(r.Files) != 4 || r.Endpoints == nil || r.Warnings == nil {
		t.Errorf("nothing is issued: %+v", r)
	}
	short := o.keep(o.sign(bundle.RSA2048, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(31 * 24 * time.Hour) }), time.Now().Add(-time.Hour))
	long := o.issued()
	r := Describe(o.want(), o.have())
	if len(r.Keys) != 2 || r.Keys[0].Serial != long.Serial || r.Keys[1].Key != "rsa2048" || r.Keys[1].SPKI != short.SPKI || r.Keys[1].Issuer != "test CA" {
		t.Errorf("%+v", r.Keys)
	}
	if renewal := o.slot(bundle.RSA2048).RenewAt; !r.NextRenewal.Equal(renewal) || r.NextRenewal.Location() != time.UTC {
		t.Errorf("the next renewal is %v, want the first of both, %v", r.NextRenewal, renewal)
	}
	o.check(o.lineage().SaveRevocation(long.ID, state.Revocation{Done: time.Now()}))
	if r := Describe(o.want(), o.have()); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "ec256 certificate with serial "+long.Serial+" has to be replaced: it was revoked") {
		t.Errorf("%q", r.Warnings)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]report.Certificate{
		"1 step would be taken":  {Plan: []string{"a"}},
		"2 steps would be taken": {Plan: []string{"a", "b"}, Changed: true},
		"changed, and served":    {Changed: true, Stage: report.Served},
		"nothing to do, served":  {Stage: report.Served},
	} {
		if got := summary(r, false); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, want := summary(report.Certificate{Stage: report.Served}, true), "changed the TLSA records; the certificate is served"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// whenHeard acts when a pass says something from now on.
func (h *host) whenHeard(text string, act func()) {
	h.mu.Lock()
	h.said = nil
	h.mu.Unlock()
	go func() {
		for h.t.Context().Err() == nil {
			if h.heard(text) {
				act()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
}

// A pass that cannot even start says why, and may be tried again if that can end.
func TestFailedToStart(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	unlock, err := o.lineage().Lock(t.Context())
	o.check(err)
	over := deadline.New(t.Context())
	o.whenHeard("waits for another mxcert", func() { close(over.Over) })
	c := o.run(over, renew)
	if c.Stage != report.Waiting || c.Code != report.CodeTemporary || c.Error.Stage != "lock" || c.Error.Kind != "locked" || !o.heard("waits for another mxcert") {
		t.Errorf("locked: %+v, %+v, %q", c, c.Error, o.said)
	}
	replaced := make(chan struct{})
	o.whenHeard("waits for another mxcert", func() { close(replaced) })
	if c := o.run(t.Context(), Options{Daemon: true, Replaced: replaced}); c.Error == nil || c.Error.Stage != "lock" {
		t.Errorf("replaced while it waits: %+v", c)
	}
	unlock()
	if c := o.run(t.Context(), Options{Daemon: true, Replaced: replaced}); c.Error == nil || !strings.Contains(c.Error.Message, errReplaced.Error()) {
		t.Errorf("replaced before: %+v", c)
	}
	o.put("state/lineages/mx/record.json", fmt.Sprintf(`{"version": %d}`, 99))
	if c := o.pass(report.CodeFailed, renew); c.Stage != report.Failed || c.Error.Stage != "state" || len(c.Names) != 2 {
		t.Errorf("a record of a later version: %+v, %+v", c, c.Error)
	}
	if c := o.look(report.CodeFailed); c.Stage != report.Failed || c.Error.Stage != "state" {
		t.Errorf("a look at it: %+v, %+v", c, c.Error)
	}
	o.put("state/lineages/mx/record.json", "{}")
	if c := o.pass(report.CodeFailed, rollback); c.Error.Stage != "state" || !strings.Contains(c.Error.Message, "no earlier certificate") {
		t.Errorf("a rollback to nothing: %+v", c.Error)
	}
}

func TestChargedToCA(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{{nil, false}, {errBoom, false}, {&fault{}, false}, {fmt.Errorf("order: %w", &fault{charged: true}), true}, {errors.Join(errBoom, &fault{charged: true}), true}} {
		if got := chargedToCA(tt.err); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}

// The daemon repeats a warning about a path that the configuration no longer names once a day; a person reads it each time.
func TestLeftPathIsToldOnceADay(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	h.pass(report.CodeOK, Options{})
	h.edit(`certificate: "`+h.Path("tls", "mx.crt"), `certificate: "`+h.Path("tls", "new.crt"))
	warned := func(options Options) bool {
		t.Helper()
		return len(h.pass(report.CodeOK, options).Warnings) > 0
	}
	byDaemon := Options{Daemon: true}
	if first, second := warned(byDaemon), warned(byDaemon); !first || second {
		t.Errorf("the daemon warns: %v, then %v", first, second)
	}
	if !warned(Options{}) {
		t.Error("a person's pass does not warn")
	}
	lineage := h.store().Lineage("mx")
	record, _, err := lineage.Load()
	h.check(err)
	record.Told.At = record.Told.At.Add(-25 * time.Hour)
	h.check(lineage.Save(record))
	if !warned(byDaemon) || warned(byDaemon) {
		t.Error("after a day the daemon warns not at all, or twice")
	}
	h.edit(h.Path("tls", "mx.key"), h.Path("tls", "new.key"))
	if !warned(byDaemon) {
		t.Error("another path that was left is not told")
	}
}

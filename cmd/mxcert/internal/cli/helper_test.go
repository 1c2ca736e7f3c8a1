package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"
	"mxcert/hooks/script"

	"mxcert/cmd/mxcert/internal/report"
)

// helped is a pass whose files a helper writes, in this process instead of as a unit of systemd.
func (h *host) helped() (*pass, *desk) {
	h.t.Helper()
	h.t.Setenv("STATE_DIRECTORY", h.Path("helper"))
	h.check(os.MkdirAll(h.Path("helper"), 0o700))
	dir := h.t.TempDir()
	var d *desk
	d, err := openDesk(dir, func(ctx context.Context, unit string) error {
		kind, id, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(unit, "mxcert-"), ".service"), "@")
		a := &app{stdout: io.Discard, stderr: io.Discard, configFile: h.config, quiet: true}
		go func() { _ = a.helper(context.Background(), helperKind(kind), id, filepath.Join(dir, "helper.sock")) }()
		return nil
	})
	h.check(err)
	h.t.Cleanup(d.close)
	config, err := configs.Load(h.config)
	h.check(err)
	p := &pass{world: &world{config: config, store: state.New(disk.At(h.Path("state"))), desk: d}, certificate: config.Certificates[0], say: func(string, string) {}}
	p.lineage = p.store.Lineage("mx")
	return p, d
}

// install calls the helper as a pass does that may not write the files.
func (p *pass) install(t *testing.T, order installOrder) (installAnswer, *helperConn) {
	t.Helper()
	c, err := p.desk.call(t.Context(), installHelper)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	var answer installAnswer
	if err := c.ask(t.Context(), order, &answer); err != nil {
		t.Fatal(err)
	}
	return answer, c
}

func filesOf(b *bundle.Bundle) []installFiles {
	return []installFiles{{Chain: string(b.FullchainPEM()), Key: string(b.KeyPEM())}}
}

// The helper plans, applies and takes back, with owner and mode of the configuration, and keeps what it replaced first.
func TestInstallHelper(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	first := h.current()
	h.report(report.CodeOK, "renew", "--now", "--new-key")
	second := h.current()
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("an operator's own file"), 0o644))
	p, _ := h.helped()
	plan := &remotePlan{ctx: t.Context(), pass: p}
	plan.answer, plan.conn = p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(first)})
	h.check(plan.answer.Error.orNil())
	if len(plan.Summary().Changes) != 2 || !plan.Summary().ContentChanges() || plan.Summary().Changes[0].After.Mode != "0640" {
		t.Fatalf("%+v", plan.answer)
	}
	h.check(plan.Apply(nil))
	if got, _ := os.ReadFile(h.Path("tls", "mx.crt")); string(got) != string(first.FullchainPEM()) {
		t.Error("the chain is not in place")
	}
	kept, _ := filepath.Glob(h.Path("helper", "lineages", "mx", "displaced", "*"))
	if !slices.ContainsFunc(kept, func(path string) bool { text, _ := os.ReadFile(path); return string(text) == "an operator's own file" }) {
		t.Errorf("kept: %v", kept)
	}
	if err := plan.Summary().Revertible(time.Now()); err == nil {
		t.Error("half a pair is revertible")
	}
	again := &remotePlan{ctx: t.Context(), pass: p}
	again.answer, again.conn = p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(second)})
	h.check(again.Apply(nil))
	h.check(again.Summary().Revertible(time.Now()))
	h.check(again.Revert())
	if got, _ := os.ReadFile(h.Path("tls", "mx.key")); string(got) != string(first.KeyPEM()) {
		t.Error("the old key is not back")
	}
}

// current is the bundle that the state says is current.
func (h *host) current() *bundle.Bundle {
	h.t.Helper()
	lineage := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := lineage.Look()
	h.check(err)
	b, err := lineage.Bundle(record.Keys[bundle.EC256].Current)
	h.check(err)
	return b
}

// Whoever took over the service gets nothing from the helper but certificates of the configured names at configured paths.
func TestInstallHelperRefuses(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	good := filesOf(h.current())
	other := newHost(t, labDefault, configDefault)
	other.edit(`["mx.example.org", "host7.example.org"]`, `["other.example.org"]`)
	other.report(report.CodeOK, "renew")
	before, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	p, _ := h.helped()
	for want, order := range map[string]installOrder{
		"no certificate":     {Verb: verbPlan, Name: "../mx", Bundles: good},
		"not for a name":     {Verb: verbPlan, Name: "mx", Bundles: filesOf(other.current())},
		"certificates for":   {Verb: verbPlan, Name: "mx"},
		"does not":           {Verb: verbPlan, Name: "mx", Bundles: []installFiles{{Chain: good[0].Chain, Key: filesOf(other.current())[0].Key}}},
		"PEM":                {Verb: verbPlan, Name: "mx", Bundles: []installFiles{{Chain: "rubbish", Key: "rubbish"}}},
		"nothing is planned": {Verb: verbApply, Name: "mx"},
	} {
		answer, c := p.install(t, order)
		if answer.Error == nil || !strings.Contains(answer.Error.Message, want) {
			t.Errorf("%+v: %+v, want %q", order.Verb, answer.Error, want)
		}
		var applied installAnswer
		h.check(c.ask(t.Context(), installOrder{Verb: verbApply, Name: "mx"}, &applied))
		if applied.Error == nil {
			t.Errorf("%q was applied", want)
		}
	}
	if after, _ := os.ReadFile(h.Path("tls", "mx.crt")); string(after) != string(before) {
		t.Error("the file changed")
	}
	// A broken edit leaves what was there before in force, as it does for the service.
	text := h.text()
	h.write("rubbish: [")
	if answer, _ := p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: good}); answer.Error != nil {
		t.Errorf("after a broken edit: %+v", answer.Error)
	}
	h.write(text)
	h.check(os.Chmod(h.config, 0o666))
	a := &app{stdout: io.Discard, stderr: io.Discard, configFile: h.config, quiet: true}
	if err := a.helper(t.Context(), installHelper, "1", h.Path("nowhere")); err == nil || report.KindOf(err) != "permission" {
		t.Errorf("a configuration that anybody may write: %v", err)
	}
}

// The hook helper runs the configured hooks, with the event that it was told, where the event is one of the configuration.
func TestHookHelper(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	h.hook("deploy.d/10-note", "#!/bin/sh\necho \"$MXCERT_NAME $MXCERT_EVENT\" >> "+h.Path("noted")+"\ncat >> "+h.Path("noted")+"\n")
	h.hook("deploy.d/20-fail", "#!/bin/sh\necho no >&2\nexit 3\n")
	p, _ := h.helped()
	dir := filepath.Join(p.config.Hooks.Directory, "deploy.d")
	outcomes, err := p.runScripts(t.Context(), dir, script.Event{Event: "deploy", Name: "mx", Domains: []string{"mx.example.org"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || len(outcomes) != 2 || outcomes[0].Failed || !outcomes[1].Failed {
		t.Errorf("%+v, %v", outcomes, err)
	}
	if noted, _ := os.ReadFile(h.Path("noted")); !strings.Contains(string(noted), "mx deploy") || !strings.Contains(string(noted), `"event":"deploy"`) {
		t.Errorf("%s", noted)
	}
	for _, e := range []script.Event{{Event: "../x", Name: "mx"}, {Event: "deploy", Name: "other"}, {Event: "deploy", Name: "mx", Fullchain: "/etc/passwd"},
		{Event: "deploy", Name: "mx", PrivateKey: filepath.Join(p.config.State, "lineages/mx/../../x")}} {
		if _, err := p.runScripts(t.Context(), dir, e); err == nil {
			t.Errorf("%+v was run", e)
		}
	}
}

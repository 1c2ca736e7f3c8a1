package pass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
)

// ran gives the lines that hooks wrote to $lab/ran, and empties it.
func (h *host) ran() []string {
	h.t.Helper()
	text, err := os.ReadFile(h.Path("ran"))
	if os.IsNotExist(err) {
		return nil
	}
	h.check(err)
	h.check(os.Remove(h.Path("ran")))
	return strings.Fields(string(text))
}

// note is a hook that writes its environment and its standard input down.
const note = `echo "$MXCERT_EVENT" >> "$lab/ran"; env > "$lab/$MXCERT_EVENT.env"; cat > "$lab/$MXCERT_EVENT.json"`

func (h *host) noted(event string) (env map[string]string, document map[string]any) {
	h.t.Helper()
	text, err := os.ReadFile(h.Path(event + ".env"))
	h.check(err)
	env = map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	for _, ofShell := range []string{"PWD", "OLDPWD", "SHLVL", "_"} {
		delete(env, ofShell)
	}
	input, err := os.ReadFile(h.Path(event + ".json"))
	h.check(err)
	h.check(json.Unmarshal(input, &document))
	return env, document
}

// The events of a certificate's life, in order, and what each hook is told: variables and document are a contract.
func TestHooksAreTold(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, event := range []string{"pre", "deploy", "post", "fail"} {
		h.hook(event+".d/50-note", note)
	}
	h.check(os.WriteFile(h.Path("hooks", "deploy.d", "README"), []byte("no hook"), 0o644))
	c := h.pass(report.CodeOK, renew)
	if got := h.ran(); !slices.Equal(got, []string{"pre", "deploy", "post"}) {
		t.Errorf("the hooks that ran: %v", got)
	}
	dir, _ := filepath.Glob(h.Path("state", "lineages", "mx", "2*"))
	for _, event := range []string{"deploy", "post"} {
		env, document := h.noted(event)
		want := map[string]string{
			"PATH": env["PATH"], "LANG": env["LANG"],
			"MXCERT_EVENT": event, "MXCERT_NAME": "mx", "MXCERT_DOMAINS": "mx.example.org host7.example.org", "MXCERT_LEFT_OUT": "",
			"MXCERT_FULLCHAIN": dir[0] + "/fullchain.pem", "MXCERT_PRIVKEY": dir[0] + "/privkey.pem",
			"MXCERT_SERIAL": c.Keys[0].Serial, "MXCERT_NOT_AFTER": c.Keys[0].NotAfter.Format(time.RFC3339), "MXCERT_CHANGED": "true",
			"RENEWED_LINEAGE": dir[0], "RENEWED_DOMAINS": "mx.example.org host7.example.org",
			"LEGO_CERT_PATH": dir[0] + "/fullchain.pem", "LEGO_CERT_KEY_PATH": dir[0] + "/privkey.pem", "LEGO_CERT_DOMAIN": "mx.example.org",
		}
		if fmt.Sprint(env) != fmt.Sprint(want) {
			t.Errorf("the environment of %s is\n%v\nwant\n%v", event, env, want)
		}
		if got, want := fmt.Sprint(document), fmt.Sprint(map[string]any{
			"event": event, "name": "mx", "domains": []any{"mx.example.org", "host7.example.org"}, "left_out": []any{}, "fullchain": env["MXCERT_FULLCHAIN"],
			"privkey": env["MXCERT_PRIVKEY"], "serial": c.Keys[0].Serial, "not_after": env["MXCERT_NOT_AFTER"], "changed": true,
		}); got != want {
			t.Errorf("the document of %s is\n%s\nwant\n%s", event, got, want)
		}
	}
	if env, _ := h.noted("pre"); env["MXCERT_NAME"] != "mx" || env["MXCERT_SERIAL"] != "" || env["MXCERT_CHANGED"] != "false" {
		t.Errorf("the environment of pre before the first issue is %v", env)
	}
	for _, path := range []string{dir[0] + "/fullchain.pem", dir[0] + "/privkey.pem"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}

	h.pass(report.CodeOK, renew)
	if got := h.ran(); len(got) > 0 {
		t.Errorf("nothing was to be done, and these hooks ran: %v", got)
	}
	h.check(os.Remove(h.Path("tls", "mx.crt")))
	h.pass(report.CodeOK, renew)
	if got := h.ran(); !slices.Equal(got, []string{"deploy", "post"}) { // no unit: a deploy hook is what tells the server
		t.Errorf("after healing these hooks ran: %v", got)
	}
	h.check(h.CA.Close())
	h.pass(report.CodeTemporary, atOnce)
	if got := h.ran(); !slices.Equal(got, []string{"pre", "fail"}) {
		t.Errorf("after a failure these hooks ran: %v", got)
	}
	env, document := h.noted("fail")
	if env["MXCERT_SERIAL"] != c.Keys[0].Serial || env["MXCERT_CHANGED"] != "false" {
		t.Errorf("the environment of fail is %v", env)
	}
	if !strings.Contains(env["MXCERT_ERROR"], "connection refused") || env["MXCERT_STAGE"] == "" || env["MXCERT_HINT"] == "" {
		t.Errorf("what failed, in the environment: %v", env)
	}
	if document["error"] != env["MXCERT_ERROR"] || document["stage"] != env["MXCERT_STAGE"] || document["hint"] != env["MXCERT_HINT"] {
		t.Errorf("what failed, in the document: %v", document)
	}
	if env, document := h.noted("pre"); len(env["MXCERT_ERROR"]) > 0 || document["error"] != nil {
		t.Errorf("pre is told of a failure: %v", env)
	}
}

// A deploy hook that fails is no reason to take a good deployment back. It is run again at every pass until it succeeds,
// then post.d has its turn, and then it is quiet.
func TestDeployHookFails(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.hook("deploy.d/10-first", `echo first >> "$lab/ran"`)
	h.hook("deploy.d/20-fails", `echo fails >> "$lab/ran"; echo "no luck today"; exit 3`)
	h.hook("deploy.d/30-last", `echo last >> "$lab/ran"`)
	h.hook("post.d/10-post", note)
	for pass := range 2 {
		c := h.pass(report.CodeFailed, renew)
		if c.Stage != report.Served || !c.Endpoints[0].Matches || c.Changed != (pass == 0) {
			t.Errorf("pass %d: %+v", pass, c)
		}
		if e := c.Error; e == nil || e.Stage != "hook" || e.Kind != "failed" || !strings.Contains(e.Message, "20-fails: exit status 3") ||
			!strings.Contains(e.Message, `"no luck today"`) || !strings.Contains(e.Hint, "next pass") {
			t.Errorf("pass %d: the error is %+v", pass, e)
		}
		if got := h.ran(); !slices.Equal(got, []string{"first", "fails", "last"}) {
			t.Errorf("pass %d: the hooks that ran: %v", pass, got)
		}
	}
	h.hook("deploy.d/20-fails", `echo mended >> "$lab/ran"`)
	h.pass(report.CodeOK, renew)
	if got := h.ran(); !slices.Equal(got, []string{"first", "mended", "last", "post"}) {
		t.Errorf("after mending, the hooks that ran: %v", got)
	}
	h.pass(report.CodeOK, renew)
	if got := h.ran(); len(got) > 0 {
		t.Errorf("the hooks ran once more: %v", got)
	}
	if n := h.CA.Count(ca.NewOrder); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// So is one of post.d after a new certificate, of several key types too.
func TestPostHookFails(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{})
	h.hook("post.d/fails", `echo "$MXCERT_SERIAL" >> "$lab/ran"; test -e "$lab/mended"`)
	c := h.pass(report.CodeFailed, renew)
	if c.Stage != report.Served || c.Error.Stage != "hook" {
		t.Errorf("%+v", c)
	}
	want := []string{c.Keys[0].Serial, c.Keys[1].Serial}
	if got := h.ran(); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	h.check(os.WriteFile(h.Path("mended"), nil, 0o600))
	h.pass(report.CodeOK, renew)
	if got := h.ran(); !slices.Equal(got, want) {
		t.Errorf("told %v again, want %v", got, want)
	}
	h.pass(report.CodeOK, renew)
	if got := h.ran(); len(got) > 0 {
		t.Errorf("told %v once more", got)
	}
}

// A pre hook that fails keeps the order from being placed, at the first issue and at a renewal; fail.d hears of it.
func TestPreHookStopsTheOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.hook("fail.d/note", note)
	h.hook("pre.d/no", `exit 1`)
	c := h.pass(report.CodeFailed, renew)
	if c.Stage != report.Failed || c.Error == nil || c.Error.Stage != "hook" || c.Changed {
		t.Errorf("%+v", c)
	}
	if n := h.CA.Count() - h.CA.Count(ca.Directory); n > 0 {
		t.Errorf("the CA got %d requests beside that for its directory", n)
	}
	env, document := h.noted("fail")
	if env["MXCERT_EVENT"] != "fail" || env["MXCERT_NAME"] != "mx" || env["MXCERT_SERIAL"] != "" || document["name"] != "mx" {
		t.Errorf("the environment of fail is %v, the document %v", env, document)
	}
	if _, ok := env["RENEWED_LINEAGE"]; ok {
		t.Error("RENEWED_LINEAGE is set, though there is nothing")
	}
	h.hook("pre.d/no", `exit 0`)
	serial := h.pass(report.CodeOK, renew).Keys[0].Serial
	h.ran()
	h.hook("pre.d/no", `exit 1`)
	c = h.pass(report.CodeFailed, atOnce)
	if c.Stage != report.Served || c.Error.Stage != "hook" || c.Keys[0].Serial != serial {
		t.Errorf("%+v", c)
	}
	if got := h.ran(); !slices.Equal(got, []string{"fail"}) {
		t.Errorf("the hooks that ran: %v", got)
	}
	if n := h.CA.Count(ca.NewOrder); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// Hooks that cannot be run, or that do not end, are failures that say so.
func TestHooksThatCannotRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, kind string }{{"writable", "unsafe"}, {"slow", "timeout"}, {"broken", "cannot-start"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			h.edit("hooks: {", "hooks: {timeout: 1s, ")
			path := h.Path("hooks", "deploy.d", tt.name)
			switch h.hook("deploy.d/"+tt.name, `exec sleep 100`); tt.name {
			case "writable":
				h.check(os.Chmod(path, 0o757))
			case "broken":
				h.check(os.WriteFile(path, []byte("#!/nonexistent/interpreter\n"), 0o755))
			}
			began := time.Now()
			c := h.pass(report.CodeFailed, renew)
			if c.Stage != report.Served || c.Error.Stage != "hook" || c.Error.Kind != tt.kind || c.Error.Hint == "" || !strings.Contains(c.Error.Message, path) {
				t.Errorf("stage %s, error %+v", c.Stage, c.Error)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A fail hook that fails is a warning beside the failure that it was to tell about.
func TestFailHookFails(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.CA.Close())
	h.hook("fail.d/fails", `exit 1`)
	c := h.pass(report.CodeTemporary, renew)
	if c.Error.Kind != "ca-unreachable" || !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "fail.d/fails: exit status 1") }) {
		t.Errorf("error %+v, warnings %v", c.Error, c.Warnings)
	}
}

// Where no unit is reloaded, a deploy hook may be what tells the server: it runs before the proof.
func TestHookReloads(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
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
	h.pass(report.CodeOK, renew)
	if text, err := os.ReadFile(h.Path("asked")); err != nil || string(text) != "reload\n" {
		t.Errorf("the hook ran %q (%v), want once", text, err)
	}
}

// The hook's server does not take the new certificate: the old files come back, and the hook runs for the old certificate, so that
// the server reads them.
func TestHookReloadsTheOld(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	h.check(os.MkdirAll(h.Path("hooks", "deploy.d"), 0o755))
	h.check(os.WriteFile(h.Path("hooks", "deploy.d", "reload"), []byte("#!/bin/sh\necho $MXCERT_SERIAL >>"+h.Path("asked")+"\n"), 0o755))
	go func() { // the server's side of the hook, the first time only
		for {
			time.Sleep(20 * time.Millisecond)
			if _, err := os.Stat(h.Path("asked")); err == nil {
				_ = h.SMTP.Reload()
				return
			}
		}
	}()
	old := h.pass(report.CodeOK, renew).Keys[0].Serial
	h.edit("timeout: 30s}\n", "timeout: 2s}\n")
	c := h.pass(report.CodeNotInService, Options{Force: true, NewKey: true})
	if c.Error == nil || !strings.Contains(c.Error.Message, "the previous certificate is back in service") {
		t.Errorf("%+v", c.Error)
	}
	text, err := os.ReadFile(h.Path("asked"))
	if serials := strings.Fields(string(text)); err != nil || len(serials) != 3 || serials[0] != old || serials[1] == old || serials[2] != old {
		t.Errorf("the hook ran for %q (%v), want %s, the new one and %[3]s", text, err, old)
	}
}

// A hook that should reload the server fails: the report names it, not the mail server's paths.
func TestHookThatReloadsFails(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	h.edit("timeout: 30s}\n", "timeout: 1s}\n")
	h.check(os.MkdirAll(h.Path("hooks", "deploy.d"), 0o755))
	h.check(os.WriteFile(h.Path("hooks", "deploy.d", "reload"), []byte("#!/bin/sh\necho no server here; exit 7\n"), 0o755))
	c := h.pass(report.CodeNotInService, renew)
	if c.Error == nil || c.Error.Stage != "verify" || !strings.Contains(c.Error.Message, "deploy.d/reload: exit status 7") || !strings.Contains(c.Error.Message, "no server here") ||
		!strings.Contains(c.Error.Hint, "repair that hook") {
		t.Errorf("%+v", c.Error)
	}
}

// One event for each certificate; before the first there are only names.
func TestHookEvents(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	if events := o.begin(renew).hookEvents(helper.Event{Name: "pre"}); len(events) != 1 || events[0] != (helper.Event{Name: "pre"}) {
		t.Errorf("%+v", events)
	}
	o = newOffline(t)
	o.edit("keys: [ec256]", "keys: [ec256, rsa2048]")
	o.edit("/tls/mx.crt", "/tls/{key}.crt")
	o.edit("/tls/mx.key", "/tls/{key}.key")
	g := o.keep(o.sign(bundle.RSA2048, nil, nil), time.Now())
	p := o.begin(renew)
	p.changed = true
	events := p.hookEvents(helper.Event{Name: "deploy"})
	if len(events) != 1 || events[0].Bundle.Serial() != g.Serial || events[0].Directory != o.lineage().Directory(g.ID) || !events[0].Changed {
		t.Errorf("%+v", events)
	}
	o.issued()
	if events := (&pass{want: o.want(), lineage: o.lineage(), have: o.have()}).hookEvents(helper.Event{Name: "post"}); len(events) != 2 || events[1].Bundle.Serial() != g.Serial || events[0].Bundle == nil {
		t.Errorf("%+v", events)
	}
}

// Hooks that are due run again until they succeed, also if nothing has changed; those of a failure run when time is over.
func TestHooksAreDue(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.pass(report.CodeOK, deployOnly)
	o.hook("deploy.d/note", note)
	o.hook("post.d/note", note)
	o.hook("fail.d/note", note)
	o.pass(report.CodeOK, deployOnly)
	if ran := o.ran(); len(ran) > 0 {
		t.Errorf("nothing has changed, and these ran: %q", ran)
	}
	o.remember(func(r *state.Record) { r.HooksDue = true })
	o.pass(report.CodeOK, deployOnly)
	if ran := o.ran(); !slices.Equal(ran, []string{"deploy", "post"}) || o.record().HooksDue {
		t.Errorf("due: %q", ran)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	p := &pass{Runner: o.runner(), want: o.want(), say: o.say, lineage: o.lineage(), have: o.have()}
	if p.failHooks(late, errors.New("late")); !slices.Equal(o.ran(), []string{"fail"}) || len(p.warnings) > 0 {
		t.Errorf("out of time: %q", p.warnings)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if p.failHooks(stopped, errors.New("stopped")); len(o.ran()) > 0 {
		t.Error("a hook ran against a stop")
	}
}

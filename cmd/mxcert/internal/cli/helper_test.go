package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
	"mxcert/hooks/script"
)

// helped is a pass whose files a helper writes: this process listens and starts it, as systemd does.
func (h *host) helped() *pass {
	h.t.Helper()
	h.t.Setenv("STATE_DIRECTORY", h.Path("helper"))
	h.check(os.MkdirAll(h.Path("helper"), 0o700))
	dir, err := os.MkdirTemp("", "") // h.t.TempDir may be too long for a socket
	h.check(err)
	h.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, kind := range []helperKind{installHelper, hookHelper} {
		listener, err := wire.Listen(filepath.Join(dir, string(kind)+".sock"), 0o600)
		h.check(err)
		h.t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				a := &app{stdout: io.Discard, stderr: io.Discard, configFile: h.config, quiet: true}
				go func() {
					_ = a.helper(context.Background(), kind, conn)
					_ = conn.Close()
				}()
			}
		}()
	}
	config, err := configs.Load(h.config)
	h.check(err)
	w := &world{config: config, store: state.At(h.Path("state")), helpers: &helpers{dir: dir, root: os.Geteuid()}}
	p := &pass{world: w, certificate: config.Certificates[0], say: func(string, string) {}}
	p.lineage = p.store.Lineage("mx")
	return p
}

// install calls the helper as a pass does that may not write the files.
func (p *pass) install(t *testing.T, order installOrder) (installAnswer, *helperConn) {
	t.Helper()
	c, err := p.helpers.call(t.Context(), installHelper)
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
	h.report(exitOK, "renew")
	first := h.current()
	h.report(exitOK, "renew", "--now", "--new-key")
	second := h.current()
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("an operator's own file"), 0o644))
	p := h.helped()
	plan := &remotePlan{ctx: t.Context(), pass: p}
	plan.answer, plan.conn = p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(first)})
	h.check(plan.answer.Error.orNil())
	if len(plan.Changes()) != 2 || !plan.ContentChanges() || plan.Changes()[0].Mode == 0 {
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
	if err := plan.Revertible(time.Now()); err == nil {
		t.Error("half a pair is revertible")
	}
	if err := plan.Shortens(time.Now()); err != nil {
		t.Errorf("nothing is live: %v", err)
	}
	again := &remotePlan{ctx: t.Context(), pass: p}
	again.answer, again.conn = p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(second)})
	h.check(again.Apply(nil))
	h.check(again.Revertible(time.Now()))
	h.check(again.Revert())
	if got, _ := os.ReadFile(h.Path("tls", "mx.key")); string(got) != string(first.KeyPEM()) {
		t.Error("the old key is not back")
	}
}

// current is the bundle that the state says is current.
func (h *host) current() *bundle.Bundle {
	h.t.Helper()
	lineage := state.At(h.Path("state")).Lineage("mx")
	record, _, err := lineage.Look()
	h.check(err)
	b, err := lineage.Bundle(record.Keys[bundle.EC256].Current)
	h.check(err)
	return b
}

// Somebody who took over the service gets nothing from the helper but certificates of the configured names at configured paths.
func TestInstallHelperRefuses(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.report(exitOK, "renew")
	good := filesOf(h.current())
	other := newHost(t, labDefault, configDefault)
	other.edit(`["mx.example.org", "host7.example.org"]`, `["other.example.org"]`)
	other.report(exitOK, "renew")
	before, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	p := h.helped()
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
	// A configuration that others may write bounds nothing: both helpers say so to the service, and do nothing.
	h.check(os.Chmod(h.config, 0o666))
	answer, _ := p.install(t, installOrder{Verb: verbPlan, Name: "mx", Bundles: good})
	if answer.Error == nil || answer.Error.Kind() != "permission" || !strings.Contains(answer.Error.Hint(), "chmod go-w") {
		t.Errorf("a configuration that others may write: %+v", answer.Error)
	}
	h.hook("deploy.d/10-note", "#!/bin/sh\n")
	_, err = p.runScripts(t.Context(), filepath.Join(p.config.Hooks.Directory, "deploy.d"), script.Event{Event: "deploy", Name: "mx"})
	if err == nil || kindOf(err) != "permission" {
		t.Errorf("a hook with a configuration that others may write: %v", err)
	}
}

// What is no order ends the helper; a service that hangs up is no error.
func TestHelperEnds(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.t.Setenv("STATE_DIRECTORY", h.t.TempDir())
	a := &app{stdout: io.Discard, stderr: io.Discard, configFile: h.config, quiet: true}
	for _, c := range []struct {
		kind helperKind
		sent string
		want string
	}{
		{installHelper, "", ""},
		{installHelper, "rubbish\n", "no order"},
		{installHelper, `{"verb":"check"`, "no order"},
		{hookHelper, "", "no order"},
		{hookHelper, "rubbish\n", "no order"},
	} {
		service, helper := socketPair(t)
		_, err := io.WriteString(service, c.sent)
		h.check(errors.Join(err, service.Close()))
		if err := a.helper(t.Context(), c.kind, helper); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %q: %v, want %q", c.kind, c.sent, err, c.want)
		}
	}
	// systemd stops it.
	_, helper := socketPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := a.helper(ctx, installHelper, helper); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// socketPair is a connection: the service's end, raw, and the helper's.
func socketPair(t *testing.T) (service *os.File, helper *wire.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	service, other := os.NewFile(uintptr(fds[0]), "service"), os.NewFile(uintptr(fds[1]), "helper")
	t.Cleanup(func() { _ = service.Close() })
	helper, err = wire.Inherit(other)
	if err = errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = helper.Close() })
	return service, helper
}

// A helper that cannot be reached, or that is not systemd's: the error says what to do.
func TestHelperUnreachable(t *testing.T) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check := func(h *helpers, message, hint string) {
		t.Helper()
		conn, err := h.call(t.Context(), installHelper)
		if err == nil {
			_ = conn.Close()
			t.Fatal("there is a connection")
		}
		if kindOf(err) != "helper" || !strings.Contains(err.Error(), message) || !strings.Contains(hintOf(err), hint) {
			t.Errorf("%s %v; %s", kindOf(err), err, hintOf(err))
		}
	}
	h := &helpers{dir: dir, root: os.Geteuid()}
	check(h, "no such file", "systemctl start mxcert-install.socket")
	path := filepath.Join(dir, "install.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	check(&helpers{dir: dir, root: os.Geteuid() + 1}, "is not systemd's", "systemctl restart mxcert-install.socket")
	// It is closed before it answers, as systemd does when there are too many connections.
	go func() {
		_, _ = listener.Accept() // of the check before
		conn, err := listener.Accept()
		if err == nil {
			_ = conn.Close()
		}
	}()
	conn, err := h.call(t.Context(), installHelper)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var answer installAnswer
	if err := conn.ask(t.Context(), installOrder{Verb: verbCheck, Name: "mx"}, &answer); err == nil || !strings.Contains(hintOf(err), "journalctl -u 'mxcert-install@*' -u mxcert-install.socket") {
		t.Errorf("%v; %s", err, hintOf(err))
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
	check(h, "refused", "systemctl start mxcert-install.socket")
}

// The hook helper runs the configured hooks for an event of the configuration, and refuses others.
func TestHookHelper(t *testing.T) {
	h := newHost(t, labDefault, configDefault)
	h.report(exitOK, "renew")
	h.hook("deploy.d/10-note", "#!/bin/sh\necho \"$MXCERT_NAME $MXCERT_EVENT\" >> "+h.Path("noted")+"\ncat >> "+h.Path("noted")+"\n")
	h.hook("deploy.d/20-fail", "#!/bin/sh\necho no >&2\nexit 3\n")
	p := h.helped()
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

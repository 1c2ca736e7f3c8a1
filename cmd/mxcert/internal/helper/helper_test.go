package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/report"
)

const life = 90 * 24 * time.Hour

// The helper plans, applies and takes back, with owner and mode of the configuration, and keeps what it replaced first.
func TestInstallHelper(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	first, second := ca.Issue(t, life, "mx.example.org", "host7.example.org"), ca.Issue(t, life, "mx.example.org", "host7.example.org")
	h.check(os.WriteFile(h.path("tls/mx.crt"), []byte("an operator's own file"), 0o644))
	plan := h.plan(first)
	if s := plan.Summary(); len(s.Changes) != 2 || !s.ContentChanges() || s.Changes[0].After.Mode != "0640" {
		t.Fatalf("%+v", plan.answer)
	}
	h.check(plan.Apply(nil))
	if got, _ := os.ReadFile(h.path("tls/mx.crt")); string(got) != string(first.FullchainPEM()) {
		t.Error("the chain is not in place")
	}
	kept, _ := filepath.Glob(h.path("helper/lineages/mx/displaced/*"))
	if !slices.ContainsFunc(kept, func(path string) bool { text, _ := os.ReadFile(path); return string(text) == "an operator's own file" }) {
		t.Errorf("kept: %v", kept)
	}
	if err := plan.Summary().Revertible(time.Now()); err == nil {
		t.Error("half a pair is revertible")
	}
	if err := plan.Summary().Shortens(time.Now()); err != nil {
		t.Errorf("nothing is live: %v", err)
	}
	again := h.plan(second)
	h.check(again.Apply(nil))
	h.check(again.Summary().Revertible(time.Now()))
	h.check(again.Touch())
	h.check(again.Revert())
	if got, _ := os.ReadFile(h.path("tls/mx.key")); string(got) != string(first.KeyPEM()) {
		t.Error("the old key is not back")
	}
	if err := h.plan(ca.Issue(t, time.Hour, "mx.example.org", "host7.example.org")).Summary().Shortens(time.Now()); err == nil || report.KindOf(err) != "longer-lived" {
		t.Errorf("a certificate that ends earlier: %v", err)
	}
}

// The operator loses no file, neither the first nor a later one, and whatever the paths look like. What the helper itself wrote is not kept.
func TestReplacedFilesAreKept(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	place := "      - files: {certificate: %[1]s.crt, private_key: %[1]s.key, reload: never}\n"
	before, after, _ := strings.Cut(h.text(), "      - files:")
	_, after, _ = strings.Cut(after, "\n")
	h.write(before + fmt.Sprintf(place, h.path("tls/a/x")) + fmt.Sprintf(place, h.path("tls/a_x")) + after)
	h.check(os.Mkdir(h.path("tls/a"), 0o755))
	for _, name := range []string{"a/x", "a_x"} {
		h.check(os.WriteFile(h.path("tls/"+name+".key"), []byte("an operator's key at "+name), 0o600))
	}
	keeps := func(want ...string) {
		t.Helper()
		h.check(h.plan(ca.Issue(t, life, "mx.example.org")).Apply(nil))
		var kept []string
		copies, _ := filepath.Glob(h.path("helper/lineages/mx/displaced/*"))
		for _, path := range copies {
			text, err := os.ReadFile(path)
			h.check(err)
			kept = append(kept, string(text))
		}
		slices.Sort(kept)
		if !slices.Equal(kept, want) {
			t.Errorf("kept are %q, want %q", kept, want)
		}
	}
	keeps("an operator's key at a/x", "an operator's key at a_x")
	keeps("an operator's key at a/x", "an operator's key at a_x")
	h.check(os.WriteFile(h.path("tls/a/x.key"), []byte("another key, later"), 0o600))
	keeps("an operator's key at a/x", "an operator's key at a_x", "another key, later")
	keeps("an operator's key at a/x", "an operator's key at a_x", "another key, later")
}

// Who took over the service gets nothing from the helper but certificates of the configured names at configured paths.
func TestInstallHelperRefuses(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	good, other := filesOf(ca.Issue(t, life, "mx.example.org")), filesOf(ca.Issue(t, life, "other.example.org"))
	h.check(h.plan(ca.Issue(t, life, "mx.example.org")).Apply(nil))
	before, err := os.ReadFile(h.path("tls/mx.crt"))
	h.check(err)
	for want, order := range map[string]installOrder{
		"no certificate":     {Verb: verbPlan, Name: "../mx", Bundles: good},
		"not for a name":     {Verb: verbPlan, Name: "mx", Bundles: other},
		"certificates for":   {Verb: verbPlan, Name: "mx"},
		"does not":           {Verb: verbPlan, Name: "mx", Bundles: []installFiles{{Chain: good[0].Chain, Key: other[0].Key}}},
		"PEM":                {Verb: verbPlan, Name: "mx", Bundles: []installFiles{{Chain: "rubbish", Key: "rubbish"}}},
		"expired at":         {Verb: verbPlan, Name: "mx", Bundles: filesOf(ca.Issue(t, -time.Minute, "mx.example.org"))},
		"nothing is planned": {Verb: verbApply, Name: "mx"},
	} {
		answer, c := h.install(order)
		if answer.Error == nil || !strings.Contains(answer.Error.Message, want) {
			t.Errorf("%+v: %+v, want %q", order.Verb, answer.Error, want)
		}
		var applied installAnswer
		h.check(c.ask(t.Context(), installOrder{Verb: verbApply, Name: "mx"}, &applied))
		if applied.Error == nil {
			t.Errorf("%q was applied", want)
		}
	}
	if after, _ := os.ReadFile(h.path("tls/mx.crt")); string(after) != string(before) {
		t.Error("the file changed")
	}
}

// The certificate may have names that the configuration does not want: they get no line in a map of root's.
func TestInstallHelperWritesNoForeignNameIntoAMap(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	before, after, _ := strings.Cut(h.text(), "      - files:")
	_, after, _ = strings.Cut(after, "\n")
	h.write(before + fmt.Sprintf("      - exim: {combined: '%s/mx.{serial}.pem', sni_map: %[1]s/sni.map, reload: never, unchecked: true}\n", h.path("tls")) + after)
	b := ca.Issue(t, life, "mx.example.org", "imap.example.net", "a.test: /etc/shadow\nevil.test")
	h.check(h.plan(b).Apply(nil))
	text, err := os.ReadFile(h.path("tls/sni.map"))
	h.check(err)
	file := h.path("tls/mx." + b.Serial() + ".pem")
	if want := "mx.example.org: " + file + "\n*: " + file + "\n"; string(text) != want {
		t.Errorf("the map is\n%s\nwant\n%s", text, want)
	}
}

// With mail domains the map also has names that looks have found, but only from a certificate of a CA that counts: the service, or whoever has
// taken it over, can make any other.
func TestInstallHelperWritesFoundNames(t *testing.T) {
	h, ca, other := newHost(t), issuer.New(t), issuer.New(t)
	before, after, _ := strings.Cut(h.text(), "      - files:")
	_, after, _ = strings.Cut(after, "\n")
	roots := h.path("roots.pem")
	h.check(os.WriteFile(roots, ca.Issue(t, life, "mx.example.org").ChainPEM(), 0o600))
	before = strings.NewReplacer("domains: ", "mail_domains: [example.org]\n    domains: ", "acme: {", "acme: {roots_file: "+roots+", ").Replace(before)
	h.write(before + fmt.Sprintf("      - exim: {combined: '%s/mx.{serial}.pem', sni_map: %[1]s/sni.map, reload: never, unchecked: true}\n", h.path("tls")) + after)
	for _, tt := range []struct {
		b    *bundle.Bundle
		want string
	}{
		{ca.Issue(t, life, "mx.example.org", "mx2.example.org", "a.test: /etc/shadow\nevil.test"), "mx.example.org mx2.example.org"},
		{other.Issue(t, life, "mx.example.org", "mx2.example.org"), "mx.example.org"},
	} {
		h.check(h.plan(tt.b).Apply(nil))
		text, err := os.ReadFile(h.path("tls/sni.map"))
		h.check(err)
		var names []string
		for line := range strings.Lines(string(text)) {
			if name, path, _ := strings.Cut(line, ": "); name != "*" && strings.Contains(path, tt.b.Serial()) {
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("the map has %q, want %q:\n%s", got, tt.want, text)
		}
	}
}

// A broken edit leaves what was there before in force, as it does for the service. A configuration that others may write
// bounds nothing: both helpers say so, and do nothing.
func TestTheConfigurationBoundsTheHelpers(t *testing.T) {
	h, good := newHost(t), filesOf(issuer.New(t).Issue(t, life, "mx.example.org"))
	if answer, _ := h.install(installOrder{Verb: verbPlan, Name: "mx", Bundles: good}); answer.Error != nil {
		t.Fatalf("%+v", answer.Error)
	}
	want := h.want()
	h.write("rubbish: [")
	if answer, _ := h.install(installOrder{Verb: verbPlan, Name: "mx", Bundles: good}); answer.Error != nil {
		t.Errorf("after a broken edit: %+v", answer.Error)
	}
	h.write(h.text())
	h.check(os.Chmod(h.config, 0o666))
	answer, _ := h.install(installOrder{Verb: verbPlan, Name: "mx", Bundles: good})
	if answer.Error == nil || answer.Error.Kind() != "permission" || !strings.Contains(answer.Error.Hint(), "chmod go-w") {
		t.Errorf("a configuration that others may write: %+v", answer.Error)
	}
	h.check(os.MkdirAll(h.path("hooks/pre.d"), 0o755))
	h.hook("pre.d/10-note", "#!/bin/sh\n")
	_, err := h.client.RunHooks(t.Context(), want, Event{Name: "pre"})
	if err == nil || report.KindOf(err) != "permission" {
		t.Errorf("a hook with a configuration that others may write: %v", err)
	}
}

// What is not an order ends the helper; a service that hangs up is no error.
func TestHelperEnds(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		kind Kind
		sent string
		want string
	}{
		{Install, "", ""},
		{Install, "rubbish\n", "no order"},
		{Install, `{"verb":"check"`, "no order"},
		{Hook, "", "no order"},
		{Hook, "rubbish\n", "no order"},
	} {
		client, helper := socketPair(t)
		_, err := io.WriteString(client, c.sent)
		h.check(errors.Join(err, client.Close()))
		if err := Serve(t.Context(), c.kind, h.config, service, helper); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %q: %v, want %q", c.kind, c.sent, err, c.want)
		}
	}
	// systemd stops it.
	_, helper := socketPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := Serve(ctx, Install, h.config, service, helper); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// A helper that cannot be reached, or that is not systemd's: the error says what to do.
func TestHelperUnreachable(t *testing.T) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check := func(c *Client, message, hint string) {
		t.Helper()
		conn, err := c.dial(t.Context(), Install)
		if err == nil {
			_ = conn.Close()
			t.Fatal("there is a connection")
		}
		if report.KindOf(err) != "helper" || !strings.Contains(err.Error(), message) || !strings.Contains(report.HintOf(err), hint) {
			t.Errorf("%s %v; %s", report.KindOf(err), err, report.HintOf(err))
		}
	}
	c := &Client{Directory: dir, Root: os.Geteuid()}
	check(c, "no such file", "systemctl start mxcert-install.socket")
	path := filepath.Join(dir, "install.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	check(&Client{Directory: dir, Root: os.Geteuid() + 1}, "does not belong to systemd", "systemctl restart mxcert-install.socket")
	// It is closed before it answers, as systemd does when there are too many connections.
	go func() {
		_, _ = listener.Accept() // of the check before
		conn, err := listener.Accept()
		if err == nil {
			_ = conn.Close()
		}
	}()
	connection, err := c.dial(t.Context(), Install)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	var answer installAnswer
	if err := connection.ask(t.Context(), installOrder{Verb: verbCheck, Name: "mx"}, &answer); err == nil || !strings.Contains(report.HintOf(err), "journalctl -u 'mxcert-install@*' -u mxcert-install.socket") {
		t.Errorf("%v; %s", err, report.HintOf(err))
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
	check(c, "refused", "systemctl start mxcert-install.socket")
}

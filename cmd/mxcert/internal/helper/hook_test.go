package helper

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/notify"
)

// The hook helper runs the configured hooks for an event of the configuration.
func TestHookHelper(t *testing.T) {
	h, b := newHost(t), issuer.New(t).Issue(t, life, "mx.example.org")
	h.hook("deploy.d/10-note", "#!/bin/sh\necho \"$MXCERT_NAME $MXCERT_EVENT\" >> "+h.path("noted")+"\ncat >> "+h.path("noted")+"\n")
	h.hook("deploy.d/20-fail", "#!/bin/sh\necho no >&2\nexit 3\n")
	want := h.want()
	outcomes, err := h.client.RunHooks(t.Context(), want, Event{Name: "deploy", Bundle: b})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || len(outcomes) != 2 || outcomes[0].Failed || !outcomes[1].Failed {
		t.Errorf("%+v, %v", outcomes, err)
	}
	if noted, _ := os.ReadFile(h.path("noted")); !strings.Contains(string(noted), "mx deploy") || !strings.Contains(string(noted), `"event":"deploy"`) {
		t.Errorf("%s", noted)
	}
	if outcomes, err := h.client.RunHooks(t.Context(), want, Event{Name: "post", Bundle: b}); len(outcomes) != 0 || err != nil {
		t.Errorf("without hooks: %+v, %v", outcomes, err)
	}
}

// Hooks see the same through the helper as in the caller's own process, except where the files are: there are copies, with the four names
// that certbot uses, which only root may read and which are gone afterwards.
func TestHooksSeeCopies(t *testing.T) {
	h, b := newHost(t), issuer.New(t).Issue(t, life, "mx.example.org", "old.example.org")
	h.hook("deploy.d/50-certbot", `#!/bin/sh
set -e
for domain in $RENEWED_DOMAINS; do mkdir -p `+h.path("copies")+`/$domain; cp -L "$RENEWED_LINEAGE"/*.pem "`+h.path("copies")+`/$domain"; done
cmp -s "$MXCERT_FULLCHAIN" "$RENEWED_LINEAGE/fullchain.pem"; cmp -s "$MXCERT_PRIVKEY" "$LEGO_CERT_KEY_PATH"
stat -c %a "$RENEWED_LINEAGE" > `+h.path("mode")+`
env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | sed "s|$RENEWED_LINEAGE|LINEAGE|" | sort > `+h.path("env")+`
`)
	seen := func(client *Client, event Event) string {
		outcomes, err := client.RunHooks(t.Context(), h.want(), event)
		if h.check(err); len(outcomes) != 1 || outcomes[0].Failed {
			t.Fatalf("%+v", outcomes)
		}
		env, err := os.ReadFile(h.path("env"))
		h.check(err)
		return string(env)
	}
	event := Event{Name: "deploy", Changed: true, Bundle: b, Directory: h.path("own")}
	h.check(os.Mkdir(event.Directory, 0o700))
	files := map[string][]byte{"fullchain.pem": b.FullchainPEM(), "privkey.pem": b.KeyPEM(), "cert.pem": b.LeafPEM(), "chain.pem": b.ChainPEM()}
	for name, content := range files {
		h.check(os.WriteFile(filepath.Join(event.Directory, name), content, 0o600))
	}
	here := seen(&Client{}, event)
	h.check(os.RemoveAll(h.path("copies")))
	h.check(os.RemoveAll(event.Directory)) // the helper needs nothing of the service's
	if there := seen(h.client, event); there != here || !strings.Contains(there, "MXCERT_SERIAL="+b.Serial()+"\n") || !strings.Contains(there, "MXCERT_DOMAINS=mx.example.org host7.example.org\n") {
		t.Errorf("by the helper\n%s\nin this process\n%s", there, here)
	}
	for _, name := range h.want().Names {
		for file, content := range files {
			if got, _ := os.ReadFile(h.path("copies/" + name + "/" + file)); string(got) != string(content) {
				t.Errorf("%s of %s is %q", file, name, got)
			}
		}
	}
	if mode, _ := os.ReadFile(h.path("mode")); string(mode) != "700\n" {
		t.Errorf("the mode of the directory is %s", mode)
	}
	if left, err := os.ReadDir(h.path("run")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Whoever has taken over the service cannot tell hooks of root what a certificate is: neither its names, nor its serial, nor where
// its files are.
func TestHookHelperTakesNoFacts(t *testing.T) {
	h := newHost(t)
	h.hook("deploy.d/10-copy", "#!/bin/sh\nfor d in $RENEWED_DOMAINS; do cp -L \"$RENEWED_LINEAGE/fullchain.pem\" \""+h.path("copies")+"/$d\"; done\neval \"echo $MXCERT_SERIAL\"\n")
	lineage := h.path("state/lineages/mx/1")
	for _, dir := range []string{h.path("copies"), h.path("cron.d"), lineage} {
		h.check(os.MkdirAll(dir, 0o755))
	}
	h.check(os.WriteFile(h.path("shadow"), []byte("secret"), 0o600))
	h.check(os.Symlink(h.path("shadow"), filepath.Join(lineage, "fullchain.pem")))
	h.check(os.WriteFile(filepath.Join(lineage, "privkey.pem"), nil, 0o600))
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	facts := map[string]any{"domains": []string{"../cron.d/x", "shadow"}, "serial": "$(touch " + h.path("pwned") + ")",
		"fullchain": filepath.Join(lineage, "fullchain.pem"), "privkey": filepath.Join(lineage, "privkey.pem")}
	orders := []map[string]any{{"event": map[string]any{"event": "deploy", "name": "mx", "domains": facts["domains"], "fullchain": facts["fullchain"], "privkey": facts["privkey"]}}}
	for name, fact := range facts {
		orders = append(orders, map[string]any{"event": "deploy", "name": "mx", "bundle": pemOf(b), name: fact})
	}
	for _, order := range orders {
		if answer := h.askHook(order); answer.Error == nil || !strings.Contains(answer.Error.Message, "not an order for hooks") || !strings.Contains(answer.Error.Hint(), "restart mxcert.service") {
			t.Errorf("%v: %+v", order, answer)
		}
	}
	for _, made := range []string{"cron.d/x", "copies/shadow", "pwned"} {
		if text, err := os.ReadFile(h.path(made)); err == nil {
			t.Errorf("root wrote %s: %q", made, text)
		}
	}
}

// An order is refused if the configuration does not have what it names, or if its certificate cannot be proven.
func TestHookHelperRefuses(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	for _, event := range []string{"pre", "deploy", "post", "fail"} {
		h.check(os.MkdirAll(h.path("hooks/"+event+".d"), 0o755))
		h.hook(event+".d/note", "#!/bin/sh\ntouch "+h.path("ran")+"\n")
	}
	good, other, expired := pemOf(ca.Issue(t, life, "mx.example.org")), pemOf(ca.Issue(t, life, "other.example.org")), pemOf(ca.Issue(t, -time.Minute, "mx.example.org"))
	for want, order := range map[string]hookOrder{
		"no event":                  {Event: "../x", Name: "mx", Bundle: good},
		"no certificate":            {Event: "deploy", Name: "../mx", Bundle: good},
		"not for a name of mx":      {Event: "deploy", Name: "mx", Bundle: other},
		"does not belong":           {Event: "fail", Name: "mx", Bundle: installFiles{Chain: good.Chain, Key: other.Key}},
		"PEM":                       {Event: "pre", Name: "mx", Bundle: installFiles{Chain: "rubbish", Key: good.Key}},
		"no PEM":                    {Event: "pre", Name: "mx", Bundle: installFiles{Key: good.Key}},
		"expired at":                {Event: "deploy", Name: "mx", Bundle: expired},
		"deploy need a certificate": {Event: "deploy", Name: "mx"},
		"post need a certificate":   {Event: "post", Name: "mx"},
	} {
		if answer := h.askHook(order); answer.Error == nil || !strings.Contains(answer.Error.Message, want) {
			t.Errorf("%s: %+v, want %q", order.Event, answer.Error, want)
		}
	}
	if _, err := os.Stat(h.path("ran")); err == nil {
		t.Error("a hook ran")
	}
	// A failure is reported before there is a certificate, when it has expired, and when none of its names is configured any more.
	for what, files := range map[string]installFiles{"none": {}, "expired": expired} {
		if answer := h.askHook(hookOrder{Event: "fail", Name: "mx", Bundle: files}); answer.Error != nil {
			t.Errorf("fail, %s: %v", what, answer.Error)
		}
	}
	if _, err := h.client.RunHooks(t.Context(), h.want(), Event{Name: "fail", Bundle: ca.Issue(t, life, "old.example.org")}); err != nil {
		t.Errorf("fail, of other names: %v", err)
	}
}

// FuzzHookOrder sends anything to the hook helper. No hook is there to run; nothing else changes either.
func FuzzHookOrder(f *testing.F) {
	h := newHost(f)
	good, host := pemOf(issuer.New(f).Issue(f, life, "mx.example.org")), mustHost(f, h)
	for _, order := range []any{hookOrder{Event: "deploy", Name: "mx", Bundle: good}, hookOrder{Event: "pre", Name: "mx"}, hookOrder{Event: "../x", Name: "mx"},
		map[string]any{"event": map[string]string{"event": "deploy"}}, map[string]any{"event": "fail", "name": "mx", "domains": []string{"../x"}},
		hookOrder{Event: "notify", Name: "desk", Message: &notify.Message{Subject: "x"}}, hookOrder{Event: "deploy", Name: "mx", Bundle: good, Message: &notify.Message{}}, nil, "x", 7} {
		text, err := json.Marshal(order)
		h.check(err)
		f.Add(text)
	}
	before := tree(f, h.dir)
	f.Fuzz(func(t *testing.T, text []byte) {
		var want wanted.Certificate
		var event Event
		order, err := parseHook(text)
		if err == nil {
			want, event, err = readEvent(host, order)
		}
		if err == nil && (want.Name != "mx" || !strings.Contains("pre deploy post fail", event.Name) || event.Directory != "" || event.Bundle != nil && !covers(want, event.Bundle)) {
			t.Errorf("%q is accepted as %+v", text, event)
		}
		result, refused := obeyHook(t.Context(), host, text)
		if (refused == nil) != (err == nil) || (refused == nil) != (result.Error == nil) || len(result.Outcomes) > 0 {
			t.Errorf("%q: %+v, %v", text, result, refused)
		}
		if after := tree(t, h.dir); after != before {
			t.Errorf("%q changed\n%s\nto\n%s", text, before, after)
		}
	})
}

// FuzzInstallOrder sends anything to the install helper, one order a line. It writes nothing but the configured files and its own notes.
func FuzzInstallOrder(f *testing.F) {
	h, ca := newHost(f), issuer.New(f)
	b, host := ca.Issue(f, life, "mx.example.org"), mustHost(f, h)
	seed := func(orders ...installOrder) {
		var lines []string
		for _, order := range orders {
			text, err := json.Marshal(order)
			h.check(err)
			lines = append(lines, string(text))
		}
		f.Add(strings.Join(lines, "\n"))
	}
	plan := installOrder{Verb: verbPlan, Name: "mx", Bundles: filesOf(b)}
	seed(plan, installOrder{Verb: verbApply, Name: "mx"}, installOrder{Verb: verbTouch, Name: "mx"}, installOrder{Verb: verbRevert, Name: "mx"})
	seed(installOrder{Verb: verbApply, Name: "mx"}, installOrder{Verb: verbCheck, Name: "mx"}, installOrder{Verb: "x", Name: "../mx"})
	seed(plan, installOrder{Verb: verbApply, Name: "../mx"}, installOrder{Verb: verbPlan, Name: "mx", Bundles: make([]installFiles, 3)}, installOrder{Verb: verbApply, Name: "mx"})
	f.Add("null\n[]\n{\"verb\":7}\nrubbish")
	before := tree(f, h.dir, "tls", "helper")
	f.Fuzz(func(t *testing.T, lines string) {
		i := &installer{host: host}
		for _, line := range strings.Split(lines, "\n") {
			var order installOrder
			if json.Unmarshal([]byte(line), &order) != nil {
				break // wire refuses it, and the connection ends
			}
			if answer := i.obey(t.Context(), order); answer.Error == nil && order.Name != "mx" {
				t.Errorf("%q is obeyed: %+v", line, answer)
			}
		}
		for path, mode := range map[string]os.FileMode{"tls/mx.crt": 0o640, "tls/mx.key": 0o640} {
			if info, err := os.Lstat(h.path(path)); err == nil && info.Mode() != mode {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
		}
		if after := tree(t, h.dir, "tls", "helper"); after != before {
			t.Errorf("%q changed\n%s\nto\n%s", lines, before, after)
		}
	})
}

// tree lists the files below a directory, but not what is in the directories that are excepted.
func tree(t testing.TB, dir string, except ...string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&list, path, info.Mode())
		if name, _ := filepath.Rel(dir, path); slices.Contains(except, name) {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// askHook sends an order to the hook helper, as anyone can who runs as the service's user.
func (h *host) askHook(order any) (answer hookAnswer) {
	h.t.Helper()
	c, err := h.client.dial(h.t.Context(), Hook)
	h.check(err)
	defer c.Close()
	h.check(c.ask(h.t.Context(), order, &answer))
	return answer
}

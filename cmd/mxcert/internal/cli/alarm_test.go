package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/hooks/notify"

	"mxcert/cmd/mxcert/internal/report"
)

// desk is an HTTP server that takes messages and pings.
type desk struct {
	*httptest.Server

	mu       sync.Mutex
	messages []notify.Message
	pings    []string // the paths
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		defer d.mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/ping") {
			d.pings = append(d.pings, r.URL.Path)
			return
		}
		var m notify.Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("no message: %v: %s", err, body)
		}
		d.messages = append(d.messages, m)
	}))
	t.Cleanup(d.Close)
	return d
}

// config is the section of the configuration that sends messages here.
func (d *desk) config() string {
	return fmt.Sprintf("notify:\n  - {name: chat, webhook: {url: %q}}\n  - {name: alive, ping: %q}\n", d.URL+"/chat", d.URL+"/ping")
}

// events are those of the messages so far. A message that came twice, because its sender was killed after it, counts once.
func (d *desk) events() (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.messages {
		list = append(list, string(m.Event))
	}
	return slices.Compact(list)
}

func (d *desk) pinged(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pings) > 0 && d.pings[len(d.pings)-1] == path
}

// process starts mxcert run in a process of its own.
func (h *host) process() (kill func(), log *transcript) {
	h.t.Helper()
	exe, err := os.Executable()
	h.check(err)
	log = &transcript{}
	cmd := exec.CommandContext(h.t.Context(), exe, "-c", h.config, "run")
	cmd.Args[0], cmd.Env, cmd.Stderr = "mxcert", []string{"GORACE=" + noSleep}, log
	h.check(cmd.Start())
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("a daemon's log:\n%s", log)
		}
	})
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, log
}

// pageConfig is the section of the configuration that has a page written.
func pageConfig(file string) string { return fmt.Sprintf("report: {html: %q}\n", file) }

// onPage reports whether the page in a file has the alarm.
func onPage(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return showsAlarm(t, string(text))
}

// showsAlarm reports whether a page has an open alarm about the certificate as people were told it: what, since when, and the next step. It may
// not say the same twice.
func showsAlarm(t *testing.T, page string) bool {
	t.Helper()
	_, alarms, _ := strings.Cut(page, `<ul class="alarms">`)
	alarms, _, _ = strings.Cut(alarms, "</ul>")
	if !strings.Contains(alarms, "people were told at") {
		return false
	}
	if strings.Count(alarms, `<li class="bad">`) != 1 || !strings.Contains(alarms, "<b>mx</b>: ") || !strings.Contains(alarms, "Since <time") || !strings.Contains(alarms, "Next: ") {
		t.Errorf("the alarms on the page are %s", alarms)
	}
	return true
}

// A daemon tells by a webhook that a renewal fails the second time, and that it works again, also if it was killed in between.
func TestTellsByWebhook(t *testing.T) {
	t.Parallel()
	desk, page := newDesk(t), filepath.Join(t.TempDir(), "page.html")
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Extra: desk.config() + pageConfig(page)})
	kill, log := h.process()
	eventually(t, "the first certificate", func() bool { return strings.Contains(log.String(), "certificate in service") })
	eventually(t, "a ping", func() bool { return desk.pinged("/ping") })
	good := h.Secret()
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", "b3RoZXI="))
	h.run("renew", "--now")
	if r, _ := h.status(); len(r.Alarms) != 0 {
		t.Errorf("the first failure is an alarm: %+v", r.Alarms)
	}
	h.run("renew", "--now")
	eventually(t, "an alarm", func() bool { return slices.Equal(desk.events(), []string{"alarm"}) })
	eventually(t, "a ping of failure", func() bool { return desk.pinged("/ping/fail") })
	eventually(t, "the alarm on the page", func() bool { return onPage(t, page) })
	kill()
	if said := h.run("status").said(); !strings.Contains(said, "alarm mx: the renewal fails, since ") {
		t.Errorf("status says %s", said)
	}
	if said := h.run("report", "--html", "-").said(); !showsAlarm(t, said) {
		t.Errorf("the page of the command lacks the alarm:\n%s", said)
	}
	kill, log = h.process()
	eventually(t, "the daemon", func() bool { return strings.Contains(log.String(), "started") })
	h.run("renew", "--now")
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", good))
	eventually(t, "a renewal", func() bool { return h.run("renew", "--now").code == report.CodeOK })
	eventually(t, "the end of the alarm", func() bool { return slices.Equal(desk.events(), []string{"alarm", "recovered"}) })
	eventually(t, "a ping", func() bool { return desk.pinged("/ping") })
	if r, _ := h.status(); len(r.Alarms)+len(r.Undelivered) != 0 {
		t.Errorf("status still has %+v and %+v", r.Alarms, r.Undelivered)
	}
	eventually(t, "a page without the alarm", func() bool { return !onPage(t, page) })
	kill()
	desk.mu.Lock()
	defer desk.mu.Unlock()
	if m := desk.messages[0]; len(m.Matters) != 1 || m.Matters[0].ID != "renewal-failed" || m.Host == "" || !strings.Contains(m.Text, "next step") {
		t.Errorf("the first message is %+v", m)
	}
	if len(desk.messages) > 4 {
		t.Errorf("%d messages", len(desk.messages))
	}
}

// Commands without a daemon tell people, too.
func TestOneShotTells(t *testing.T) {
	t.Parallel()
	desk, page := newDesk(t), filepath.Join(t.TempDir(), "page.html")
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Extra: desk.config() + pageConfig(page)})
	h.report(report.CodeOK, "renew")
	if !desk.pinged("/ping") {
		t.Error("no ping")
	}
	h.hook("pre.d/no", "exit 1")
	h.report(report.CodeFailed, "renew", "--now")
	if events := desk.events(); len(events) != 0 {
		t.Errorf("the first failure made %v", events)
	}
	h.report(report.CodeFailed, "renew", "--now")
	if events := desk.events(); !slices.Equal(events, []string{"alarm"}) {
		t.Errorf("the second failure made %v", events)
	}
	if !onPage(t, page) {
		t.Error("the page, which is written when the command ends, lacks the alarm")
	}
	h.check(os.Remove(h.Path("hooks", "pre.d", "no")))
	h.report(report.CodeOK, "renew", "--now")
	if events := desk.events(); !slices.Equal(events, []string{"alarm", "recovered"}) {
		t.Errorf("the end made %v", events)
	}
	if onPage(t, page) {
		t.Error("the page still has the alarm")
	}
}

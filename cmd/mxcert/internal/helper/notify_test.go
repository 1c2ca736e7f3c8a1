package helper

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/notify"
)

// withChannels adds channels to the configuration: a program, one that fails, and a webhook.
func (h *host) withChannels() {
	h.t.Helper()
	for name, text := range map[string]string{"page": fmt.Sprintf("cat > %s/got\n", h.dir), "fails": "echo no >&2; exit 1\n"} {
		h.check(os.WriteFile(h.path(name), []byte("#!/bin/sh\n"+text), 0o755))
	}
	h.write(h.text() + fmt.Sprintf("notify: [{name: page, exec: %[1]s/page}, {name: fails, exec: %[1]s/fails}, {name: chat, webhook: {url: \"http://127.0.0.1:1/x\"}}]\n", h.dir))
}

// The hook helper sends messages of channels that need the rights of root, and of no other.
func TestHookHelperSendsMessages(t *testing.T) {
	h := newHost(t)
	h.withChannels()
	m := notify.Message{Host: "mx", Event: notify.Alarm, Subject: "a\nb\x1b", Text: "x", At: time.Now(), Matters: []notify.Matter{}}
	page, _ := mustHost(t, h).Channel("page")
	h.check(h.client.Notify(t.Context(), page.Sender, m))
	got, err := os.ReadFile(h.path("got"))
	if h.check(err); !strings.Contains(string(got), `"event":"alarm","subject":"a b`) || strings.Contains(string(got), "\x1b") {
		t.Errorf("%s", got)
	}
	fails, _ := mustHost(t, h).Channel("fails")
	if err := h.client.Notify(t.Context(), fails.Sender, m); err == nil || !report.IsTemporary(err) || report.HintOf(err) == "" || !strings.Contains(err.Error(), `exit status 1; it said "no"`) {
		t.Errorf("%v", err)
	}
	for want, order := range map[string]any{
		"has no channel":             hookOrder{Event: "notify", Name: "nobody", Message: &m},
		"needs no rights of root":    hookOrder{Event: "notify", Name: "chat", Message: &m},
		"has a message, and":         hookOrder{Event: "notify", Name: "page"},
		"nothing else":               hookOrder{Event: "notify", Name: "page", Message: &m, Changed: true},
		"hooks take no message":      hookOrder{Event: "pre", Name: "mx", Message: &m},
		"this is not an order":       map[string]any{"event": "notify", "name": "page", "program": "/bin/sh"},
		"there is no event \"page\"": hookOrder{Event: "page", Name: "mx"},
	} {
		h.check(os.RemoveAll(h.path("got")))
		if answer := h.askHook(order); answer.Error == nil || !strings.Contains(answer.Error.Message, want) {
			t.Errorf("%s: %+v", want, answer.Error)
		}
		if _, err := os.Stat(h.path("got")); err == nil {
			t.Errorf("%s: the program ran", want)
		}
	}
}

// Without a helper, or if it cannot be reached.
func TestNotifyWithoutHelper(t *testing.T) {
	h := newHost(t)
	h.withChannels()
	page, _ := mustHost(t, h).Channel("page")
	m := notify.Message{Event: notify.Test, Matters: []notify.Matter{}}
	h.check((&Client{}).Notify(t.Context(), page.Sender, m))
	if _, err := os.Stat(h.path("got")); err != nil {
		t.Error(err)
	}
	err := (&Client{Directory: h.path("nowhere")}).Notify(t.Context(), page.Sender, m)
	if err == nil || !report.IsTemporary(err) || report.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.client.Notify(ctx, page.Sender, m); err == nil {
		t.Error("it was sent after the end")
	}
}

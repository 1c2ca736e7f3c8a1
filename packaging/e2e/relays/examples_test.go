package relays

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/hooks/notify"
	"mxcert/packaging/e2e/world"
)

// ownExim delivers the mail of this host.
const ownExim = "primary_hostname = mx.example.org\n" + eximBox

// desk is the server that the examples call.
type desk struct {
	mu   sync.Mutex
	took []call
}

// call is a request to it.
type call struct {
	path   string
	header http.Header
	body   string
}

func (d *desk) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what is missing is missed
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, call{r.Method + " " + r.URL.Path, r.Header, string(body)})
}

// last returns the only request since the last call.
func (d *desk) last(t *testing.T) call {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.took) != 1 {
		t.Fatalf("%d requests, not one: %v", len(d.took), d.took)
	}
	c := d.took[0]
	d.took = nil
	return c
}

// serveDesk starts it on the receiver, as hooks.example.
func (w *town) serveDesk() *desk {
	w.t.Helper()
	b := w.known.Issue(w.t, time.Hour, "hooks.example")
	pair, err := tls.X509KeyPair(b.FullchainPEM(), b.KeyPEM())
	w.check(err)
	var listener net.Listener
	var failed error
	w.check(w.Receiver.Do(func() { listener, failed = net.Listen("tcp", world.ReceiverIPv4+":443") }))
	w.check(failed)
	d := &desk{}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, Handler: d, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	w.t.Cleanup(func() { _ = server.Close() })
	return d
}

// examples returns the configurations of a page, and its other blocks.
func examples(t *testing.T, file string) (configurations, others []string) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range strings.Split(string(page), "```") {
		text = strings.TrimPrefix(text, "yaml")
		switch {
		case i%2 == 0:
		case strings.HasPrefix(strings.TrimLeft(text, "\n "), "notify:\n"):
			if strings.HasPrefix(text, "\n   notify:") { // in a list
				text = strings.ReplaceAll(text, "\n   ", "\n")
			}
			configurations = append(configurations, text)
		default:
			others = append(others, text)
		}
	}
	return configurations, others
}

// examplesAreSent: each example of the documentation sends a message as it is written. The names in it are those of servers of this test.
func examplesAreSent(t *testing.T, w *town) {
	d := w.serveDesk()
	w.check(w.Here.Write("/etc/hosts", w.hosts+world.ReceiverIPv4+" hooks.example\n"+address("exim", good)+" relay.example\n", 0o644))
	w.secret("chat-url", "https://hooks.example/services/the-secret-of-the-chat")
	w.secret("ping-url", "https://hooks.example/ping/the-secret-of-the-switch")
	w.check(w.Here.Write("/etc/exim4/exim4.conf", ownExim, 0o644))
	w.must(w.Here, "install", "-d", "-m", "0777", "/srv/mail")
	w.check(w.Here.Write("/usr/local/sbin/page", "#!/bin/sh\ncat >/tmp/paged\nenv >/tmp/environment\n", 0o755))

	configurations, others := examples(t, "../../man/mxcert-notify.7.md")
	w.check(w.Here.Write("/etc/mxcert/chat.tmpl", others[0], 0o644))
	done := map[string]int{}
	for _, text := range configurations {
		done[w.example(d, text)]++
		if strings.Contains(text, "body: slack") {
			for _, body := range notify.Bodies() {
				done[w.example(d, strings.Replace(text, "body: slack", "body: "+body, 1))]++
			}
		}
	}
	for _, way := range []string{"sendmail", "relay", "slack", "json", "ntfy", "matrix", "template", "exec", "ping"} {
		if done[way] == 0 {
			t.Errorf("no example was sent by %s: %v", way, done)
		}
	}
	fromReadme, _ := examples(t, "../../../README.md")
	if len(fromReadme) != 1 {
		t.Fatalf("the README has %d examples", len(fromReadme))
	}
	before := len(w.letters(w.Here))
	w.configure(fromReadme[0])
	if list, result := w.notify(); result.Code != 0 || !list["desk"].OK || !list["alive"].OK {
		t.Errorf("README: exit %d, %+v", result.Code, list)
	}
	w.within(20*time.Second, "the mail of the README arrives", func() bool { return len(w.letters(w.Here)) == before+1 })
	w.pinged(d.last(t))
}

// example sends the test message of an example, looks at what arrives, and returns the way that it took.
func (w *town) example(d *desk, text string) (way string) {
	w.t.Helper()
	w.configure(text)
	here, there := len(w.letters(w.Here)), len(w.letters(w.relay("exim")))
	list, result := w.notify()
	if result.Code != 0 || len(list) != 1 {
		w.t.Errorf("exit %d: %+v\n%s", result.Code, list, text)
		return ""
	}
	_, body, _ := strings.Cut(text, "body: ")
	body, _, _ = strings.Cut(body, "\n")
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("via: sendmail"):
		w.within(20*time.Second, "a mail by sendmail", func() bool { return len(w.letters(w.Here)) == here+1 })
		w.wellFormed("sendmail", w.letters(w.Here)[here])
		return "sendmail"
	case has("smtp:"):
		w.within(20*time.Second, "a mail by the relay", func() bool { return len(w.letters(w.relay("exim"))) == there+1 })
		w.wellFormed("relay", w.letters(w.relay("exim"))[there])
		return "relay"
	case has("webhook:"):
		return w.called(d.last(w.t.(*testing.T)), body)
	case has("exec:"):
		var m notify.Message
		if err := json.Unmarshal([]byte(w.must(w.Here, "cat", "/tmp/paged")), &m); err != nil || m.Event != notify.Test || m.Host == "" || m.Version != 1 {
			w.t.Errorf("the program got %+v, %v", m, err)
		}
		if environment := w.must(w.Here, "cat", "/tmp/environment"); !strings.Contains(environment, "MXCERT_EVENT=test\n") {
			w.t.Errorf("the program had %s", environment)
		}
		return "exec"
	case has("ping:"):
		w.pinged(d.last(w.t.(*testing.T)))
		return "ping"
	}
	w.t.Errorf("an example of nothing known:\n%s", text)
	return ""
}

// called looks at the request of a webhook.
func (w *town) called(c call, body string) (way string) {
	w.t.Helper()
	if c.path != "POST /services/the-secret-of-the-chat" {
		w.t.Errorf("a request for %s", c.path)
	}
	var v map[string]any
	isJSON := json.Unmarshal([]byte(c.body), &v) == nil && c.header.Get("Content-Type") == "application/json"
	text, _ := v["text"].(string)
	good, way := isJSON && strings.Contains(text, "This is a test."), body
	switch body {
	case notify.BodyJSON:
		good = good && v["event"] == "test" && v["version"] == 1.0
	case notify.BodySlack, notify.BodyMatrix:
		good = good && len(v) == 1
	case notify.BodyNtfy:
		good = !isJSON && strings.Contains(c.header.Get("Title"), "test") && strings.HasPrefix(c.body, "This is a test.")
	default:
		good, way = good && v["title"] != "" && v["urgent"] == false && v["certificates"] != nil, "template"
	}
	if !good {
		w.t.Errorf("%s: %v %s", body, c.header, c.body)
	}
	return way
}

func (w *town) pinged(c call) {
	w.t.Helper()
	if c.path != "POST /ping/the-secret-of-the-switch" || !strings.Contains(c.body, "This is a test.") {
		w.t.Errorf("the switch heard %s: %s", c.path, c.body)
	}
}

package fleet

import (
	"strings"
	"testing"
	"time"
)

// enter has a host come from nothing, and go. Before it is let in it makes mistakes, each of which is said, and changes nothing.
func (w *town) enter(t *testing.T) {
	serial := w.serve(laterLimit, "", w.hosts...)
	orders := len(w.orders.list())
	h := w.boot(4)[0]
	w.install(h)
	before := w.contents(t)

	good := w.ca.clients["mx4"]
	for what, mistake := range map[string]struct {
		config func(string) string
		client pair
		said   string
	}{
		"an expired client certificate": {client: w.ca.issue("mx4", -time.Hour), said: "expired"},
		"a user without the role":       {client: w.ca.issue("stranger", time.Hour), said: "stranger"},
		"the name of another host":      {client: good, config: replace("host: mx4", "host: mx1"), said: "mx1"},
		"the identity of a stranger":    {client: good, config: replace(", "+w.all[len(w.all)-1]+"]", "]"), said: "recipient"},
		"another CA":                    {client: good, config: replace("etcd-ca.pem", "../pebble/roots.pem"), said: "certificate"},
	} {
		config := w.config(h)
		if mistake.config != nil {
			config = mistake.config(config)
		}
		w.lend(h, mistake.client)
		w.check(h.Put("/etc/mxcert/mxcert.yaml", []byte(config), 0o644))
		r := w.mxcert(h, "fleet", "join", "--yes")
		said := strings.Join(strings.Fields(r.Stdout+r.Stderr), " ")
		if r.Code == 0 || !strings.Contains(said, mistake.said) || strings.Contains(said, "panic") {
			t.Errorf("%s: exit status %d: %s", what, r.Code, said)
		}
	}
	if after := w.contents(t); after != before {
		t.Errorf("a mistake has written into etcd:\n%s\n---\n%s", before, after)
	}
	w.lend(h, good)
	w.configure(h)

	// Nobody here knows it yet.
	first := w.hosts[0]
	if r := w.mxcert(first, "fleet", "recipients", "add", w.all[len(w.all)-1], "--host", "mx4"); r.Code != 0 {
		t.Fatalf("recipients add: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	before = w.contents(t)
	r := w.mxcert(h, "fleet", "join")
	if r.Code != 0 || !strings.Contains(r.Stdout, serial[:8]) {
		t.Fatalf("fleet join: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if after := w.contents(t); after != before {
		t.Errorf("a dry run has written into etcd:\n%s\n---\n%s", before, after)
	}
	if r, err := h.Run(t.Context(), "find", "/var/lib/mxcert", "-name", "*.pem"); err != nil || r.Stdout != "" {
		t.Errorf("a dry run has written %s%s", r.Stdout, r.Stderr)
	}
	if r := w.mxcert(h, "fleet", "join", "--yes"); r.Code != 0 {
		t.Fatalf("fleet join --yes: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.hosts = append(w.hosts, h)
	w.must(h, "systemctl", "enable", "--now", "mxcert")
	w.served(serial)
	w.within(laterLimit, "four hosts are well", func() error { return w.well(t.Context()) })
	if n := len(w.orders.list()); n != orders {
		t.Errorf("%d orders became %d", orders, n)
	}
	w.say("a fourth host has joined")
	w.leave(t, h, serial)
}

// leave has the last host go for good: the others change their key, and what is in etcd it cannot read any more.
func (w *town) leave(t *testing.T, h *host, serial string) {
	first := w.hosts[0]
	w.must(h, "systemctl", "disable", "--now", "mxcert")
	w.hosts = w.hosts[:len(w.hosts)-1]
	w.check(w.again(t.Context(), first, []string{"fleet", "forget", "mx4", "--yes"}))
	if r := w.mxcert(first, "fleet", "recipients", "remove", "mx4", "--yes"); r.Code != 0 {
		t.Fatalf("recipients remove: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.serve(laterLimit, serial, w.hosts...)
	w.within(laterLimit, "three hosts are well", func() error { return w.well(t.Context()) })
	r := w.mxcert(h, "renew", "mx")
	if said := strings.Join(strings.Fields(r.Stdout+r.Stderr), " "); r.Code == 0 && !strings.Contains(said, "removed") {
		t.Errorf("a host that was removed takes part: exit status %d: %s", r.Code, said)
	}
	if n, err := h.wire.judge(w.orders.rank); err != nil || n == 0 {
		t.Errorf("%d sessions, %v", n, err)
	}
	h.Kill()
	w.say("it has left")
}

// replace changes a text that has to be there.
func replace(old, with string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic("there is no " + old)
		}
		return strings.Replace(text, old, with, 1)
	}
}

// lend gives a host a client certificate.
func (w *town) lend(h *host, client pair) {
	w.t.Helper()
	w.check(h.Put("/etc/mxcert/etcd.pem", client.certificate, 0o644))
	w.secret(h, "etcd", client.key)
}

// contents are the keys below the fleet's prefix, but for what the hosts renew by themselves.
func (w *town) contents(t *testing.T) string {
	t.Helper()
	r, err := w.etcdctl(t.Context(), "get", "--prefix", "/mxcert/v1/berlin/", "--keys-only")
	w.check(err)
	var list []string
	for key := range strings.FieldsSeq(r.Stdout) {
		if !strings.Contains(key, "/host/mx1/") && !strings.Contains(key, "/host/mx2/") && !strings.Contains(key, "/host/mx3/") && !strings.Contains(key, "lock") {
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		t.Fatalf("etcd holds nothing: exit status %d\n%s", r.Code, r.Stderr)
	}
	return strings.Join(list, "\n")
}

// Package relays has mxcert send its messages through real relays: Debian's Postfix (with Dovecot for logins) and Exim, with STARTTLS, TLS
// from the start and logins, on a host that is not this one; and by each example of the documentation, as it is written.
package relays

import (
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// A town has mxcert on the sender and the relays on the receiver.
type town struct {
	*world.World

	Here *world.Host // the sender, with Exim's root tree

	t              testing.TB
	known, unknown *issuer.Issuer // authorities: the sender trusts the first
	hosts          string         // names of the seats
}

func newTown(t testing.TB) *town {
	t.Helper()
	mailhost.Require(t)
	w := &town{World: world.Start(t, mailhost.Debian12), t: t} // the dialect of Dovecot is that of 2.3
	w.Here = w.Sender.In(world.Exim)
	program, err := mailhost.Build(t.Context(), "mxcert/cmd/mxcert")
	w.check(err)
	w.check(w.Here.WriteFile(mailhost.File{Path: "/usr/bin/mxcert", Content: program, Mode: 0o755}))
	w.serve()
	root := w.known.Issue(t, time.Hour, "x.example")
	w.check(w.Here.Write("/etc/ssl/certs/ca-certificates.crt", string(root.ChainPEM()), 0o644))
	w.check(w.Here.Write("/etc/mxcert/own-ca.pem", string(w.unknown.Issue(t, time.Hour, "x.example").ChainPEM()), 0o644))
	w.must(w.Here, "install", "-d", "-m", "0700", "/var/lib/mxcert", "/etc/mxcert/credentials")
	w.secret("relay", password)
	w.check(w.Here.Write("/etc/hosts", w.hosts, 0o644))
	return w
}

// base is a configuration without channels.
const base = `acme: {agree_tos: true}
dns: {provider: exec, env: {EXEC_PATH: /bin/true}}
certificates: [{name: mx, domains: [mx.example.org], deploy: [{files: {certificate: /etc/mx.crt, private_key: /etc/mx.key}}]}]
`

// configure writes the configuration with the section notify.
func (w *town) configure(notify string) {
	w.t.Helper()
	w.check(w.Here.Write("/etc/mxcert/mxcert.yaml", base+notify, 0o644))
}

func (w *town) secret(name, value string) {
	w.t.Helper()
	w.check(w.Here.Write("/etc/mxcert/credentials/"+name, value+"\n", 0o600))
}

// sent is what became of a message, as `notify test --json` says it.
type sent struct {
	Name, Kind, Error, Hint string
	OK                      bool
	Code                    int
}

// notify runs `mxcert notify test --json`.
func (w *town) notify(args ...string) (list map[string]sent, result mailhost.Result) {
	w.t.Helper()
	result, err := w.Here.Run(w.t.Context(), append([]string{"mxcert", "notify", "test", "--json"}, args...)...)
	w.check(err)
	var r struct{ Channels []sent }
	if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil {
		w.t.Fatalf("exit %d: %v\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	list = map[string]sent{}
	for _, s := range r.Channels {
		list[s.Name] = s
	}
	return list, result
}

// letter is a mail as it was delivered.
type letter struct {
	*mail.Message
	raw, text string
}

// letters reads the mails that a mail server has delivered, the oldest first.
func (w *town) letters(h *world.Host) (list []letter) {
	w.t.Helper()
	for _, raw := range strings.Split(w.must(h, "sh", "-c", "for f in $(ls -tr /srv/mail/box/new/* 2>/dev/null); do cat $f; printf '\\036'; done"), "\x1e") {
		if raw == "" {
			continue
		}
		m, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			w.t.Fatalf("%v\n%s", err, raw)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		w.check(err)
		list = append(list, letter{m, raw, string(text)})
	}
	return list
}

func (w *town) must(h *world.Host, argv ...string) string {
	w.t.Helper()
	out, err := h.Must(w.t.Context(), argv...)
	w.check(err)
	return out
}

func (w *town) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// within waits until something holds. The limit is for a busy machine.
func (w *town) within(limit time.Duration, what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("after %v it is not so: %s\n%s\n%s", limit, what, w.log("postfix"), w.log("exim"))
		}
	}
}

// tell shows what a server said, if the test has failed.
func (w *town) tell(server, output string) {
	if w.t.Failed() {
		w.t.Logf("%s: %s\n%s", server, output, fmt.Sprint(w.log(server)))
	}
}

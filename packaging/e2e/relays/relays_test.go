package relays

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// attempt is a message to a relay, and what becomes of it.
type attempt struct {
	seat   string
	port   int
	secret string   // of the login; "" is the right one, "-" is no login
	to     []string // "" is ops@elsewhere.example
	own    bool     // with ca_file
	code   int      // the exit code for this channel alone
	says   string   // a part of the error; empty if the message is taken
	next   string   // a part of the hint
}

// attempts are made at both relays. The codes: 1 it will not work as it is, 75 it may work later.
var attempts = map[string]attempt{
	"starttls":   {seat: good, port: 587},
	"implicit":   {seat: good, port: 465},
	"old-login":  {seat: old, port: 587},
	"own-ca":     {seat: stranger, port: 587, own: true},
	"own-ca-465": {seat: stranger, port: 465, own: true},
	"password":   {seat: good, port: 587, secret: "cred:wrong", code: 1, says: `does not accept the login of mxcert: "535 `, next: "are user and password right?"},
	"no-login":   {seat: good, port: 587, secret: "-", code: 1, says: `does not take mail `, next: "may this host send mail"},
	"name":       {seat: named, port: 587, code: 75, says: "is wrong: x509: certificate is valid for other.example", next: "as its certificate has it"},
	"name-465":   {seat: named, port: 465, code: 75, says: "is wrong: x509: certificate is valid for other.example", next: "as its certificate has it"},
	"expired":    {seat: expired, port: 587, code: 75, says: "is wrong: x509: certificate has expired", next: "needs a new certificate"},
	"unknown-ca": {seat: stranger, port: 587, code: 75, says: "is wrong: x509: certificate signed by unknown authority", next: "set mail.via.ca_file"},
	"not-our-ca": {seat: good, port: 587, own: true, code: 75, says: "is wrong: x509: certificate signed by unknown authority", next: "set mail.via.ca_file"},
	"clear":      {seat: plain, port: 587, code: 1, says: "does not offer STARTTLS, so mxcert sends it nothing", next: "587, or 465"},
	"later":      {seat: good, port: 587, to: []string{"later@elsewhere.example"}, code: 75, says: `does not take mail for later@elsewhere.example: "45`, next: "takes it later"},
	"nobody":     {seat: good, port: 587, to: []string{"nobody@elsewhere.example"}, code: 1, says: `does not take mail for nobody@elsewhere.example: "550 5.1.1 `, next: "with these addresses?"},
	"one-of-two": {seat: good, port: 465, to: []string{"nobody@elsewhere.example", "boss@elsewhere.example"}, code: 1, says: "it has taken it for 1 of 2", next: "with these addresses?"},
	"closed":     {seat: good, port: 2525, code: 75, says: "does not answer", next: "nc -vz good."},
}

// channels writes the attempts at a relay as channels.
func channels(server string) string {
	var b strings.Builder
	for name, a := range attempts {
		to, login, ca := a.to, "cred:relay", ""
		if to == nil {
			to = []string{"ops@elsewhere.example"}
		}
		if a.secret != "" {
			login = a.secret
		}
		if login = fmt.Sprintf(", user: %s, password: %q", user, login); a.secret == "-" {
			login = ""
		}
		if a.own {
			ca = ", ca_file: /etc/mxcert/own-ca.pem"
		}
		fmt.Fprintf(&b, "  - {name: %s, mail: {to: [%s], from: mxcert@mx.example.org, via: {smtp: \"%s.%s.example:%d\"%s%s}}}\n", name, strings.Join(to, ", "), a.seat, server, a.port, login, ca)
	}
	return "notify:\n" + b.String()
}

// TestRelays sends through Debian's Postfix and Exim. The parts share one town, one after another.
func TestRelays(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *town)
	}{{"answers", answers}, {"hostile text", hostileText}, {"silence", silence}, {"examples", examplesAreSent}} {
		t.Run(part.name, func(t *testing.T) {
			here := *w
			here.t = t
			part.run(t, &here)
		})
	}
}

// answers: each way in which a relay takes or refuses a message ends with what an operator has to know. What is taken arrives, once.
func answers(t *testing.T, w *town) {
	w.secret("wrong", "Pa55-that-is-wrong")
	for _, server := range []string{"postfix", "exim"} {
		w.configure(channels(server))
		list, result := w.notify()
		if result.Code != 4 || len(list) != len(attempts) {
			t.Errorf("%s: exit %d, %d channels", server, result.Code, len(list))
		}
		want := map[string]int{}
		for name, a := range attempts {
			s := list[name]
			if s.OK != (a.says == "") || s.Code != a.code || !strings.Contains(s.Error, a.says) || !strings.Contains(s.Hint, a.next) {
				t.Errorf("%s, %s: %+v", server, name, s)
			}
			if s.OK && s.Error+s.Hint != "" || !s.OK && (!strings.Contains(s.Error, a.seat+"."+server+".example") || s.Hint == "") {
				t.Errorf("%s, %s: %+v", server, name, s)
			}
			t.Logf("%s, %s: %s → %s", server, name, s.Error, s.Hint)
			switch {
			case s.OK:
				want["<ops@elsewhere.example>"]++
			case name == "one-of-two":
				want["<nobody@elsewhere.example>, <boss@elsewhere.example>"]++
			}
		}
		noPassword(t, server, result.Stdout+result.Stderr)
		w.arrived(server, want)
		// A password has not gone over a connection that is not encrypted: the relay would have taken it.
		for line := range strings.Lines(w.log(server)) {
			if strings.Contains(line, address(server, plain)) && (strings.Contains(line, "auth=") || strings.Contains(line, "AUTH")) {
				t.Errorf("%s: a login without TLS: %s", server, line)
			}
		}
		// doctor tries the login, and sends nothing.
		doctor, err := w.Here.Run(t.Context(), "mxcert", "doctor", "--online", "--json")
		w.check(err)
		for _, part := range []string{"the channel starttls is ready", "the channel own-ca is ready", "the channel later is ready", "the channel password cannot tell anybody", "the channel clear cannot tell anybody"} {
			if !strings.Contains(doctor.Stdout, part) {
				t.Errorf("%s: doctor does not say %q:\n%s", server, part, doctor.Stdout)
			}
		}
		noPassword(t, server, doctor.Stdout+doctor.Stderr)
		w.arrived(server, want)
	}
	// What was greylisted is taken when it is sent again.
	w.check(w.relay("exim").Write("/etc/relays/known", "", 0o644))
	before := len(w.letters(w.relay("exim")))
	if list, result := w.notify("later"); result.Code != 0 || !list["later"].OK {
		t.Errorf("after greylisting: exit %d, %+v", result.Code, list)
	}
	w.within(20*time.Second, "the greylisted mail arrives", func() bool { return len(w.letters(w.relay("exim"))) == before+1 })
}

// arrived waits for mails by their recipients, and looks at each.
func (w *town) arrived(server string, want map[string]int) {
	w.t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	w.within(20*time.Second, "the mails arrive", func() bool { return len(w.letters(w.relay(server))) >= total })
	got, seen := map[string]int{}, map[string]bool{}
	for _, l := range w.letters(w.relay(server)) {
		got[l.Header.Get("To")]++
		w.wellFormed(server, l)
		id := l.Header.Get("Message-Id")
		if seen[id] {
			w.t.Errorf("%s: two mails are %s", server, id)
		}
		seen[id] = true
	}
	for to, n := range want {
		if got[to] != n {
			w.t.Errorf("%s: %d mails for %s, not %d: %v", server, got[to], to, n, got)
		}
	}
}

// wellFormed tests a mail as it was delivered (RFC 5322, RFC 3834).
func (w *town) wellFormed(server string, l letter) {
	w.t.Helper()
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Auto-Submitted"} {
		if len(l.Header[name]) != 1 {
			w.t.Errorf("%s: %d headers %s\n%s", server, len(l.Header[name]), name, l.raw)
		}
	}
	if at, err := l.Header.Date(); err != nil || time.Since(at) > time.Hour || time.Since(at) < -time.Minute {
		w.t.Errorf("%s: the date is %v, %v", server, at, err)
	}
	if l.Header.Get("Auto-Submitted") != "auto-generated" || l.Header.Get("Bcc") != "" || !strings.Contains(l.Header.Get("From"), "<mxcert@mx.example.org>") {
		w.t.Errorf("%s: %v", server, l.Header)
	}
	for line := range strings.Lines(l.raw) {
		if len(line) > 300 || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			w.t.Errorf("%s: a line that not every server takes: %q", server, line)
		}
	}
}

// noPassword looks for the passwords, also as a login encodes them.
func noPassword(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{password, "Pa55-that-is-wrong"} {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + secret))} {
			if strings.Contains(text, form) {
				t.Errorf("%s: a password is shown: %s", where, text)
			}
		}
	}
}

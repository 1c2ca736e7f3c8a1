package relays

import (
	"mime"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/notify"
)

// hostileText: foreign text in a message, such as what a name server says, neither becomes a header nor breaks the mail, on its way through
// real relays.
func hostileText(t *testing.T, w *town) {
	own := filepath.Join(t.TempDir(), "ca.pem")
	w.check(os.WriteFile(own, w.known.Issue(t, time.Hour, "x.example").ChainPEM(), 0o600))
	const attack = "\r\nBcc: all@elsewhere.example\r\n\r\n.\r\nQUIT\r\n"
	m := notify.Message{Host: "mx.example.org" + attack, Event: notify.Alarm, At: time.Now(), Subject: "bücher" + attack + strings.Repeat("long ", 40),
		Text:    "Grüße\n.\n..\nFrom here\n" + strings.Repeat("lang ", 2000) + attack,
		Matters: []notify.Matter{{ID: "x>" + attack, Severity: "error", Certificates: []string{"mx" + attack}, Since: time.Now(), What: attack}}}
	for _, server := range []string{"postfix", "exim"} {
		relay := &notify.Relay{Address: net.JoinHostPort(address(server, good), "587"), User: user, Password: func() (string, error) { return password, nil }, CAFile: own}
		channel := notify.NewMail("desk", notify.Mail{To: []string{"ops@elsewhere.example", "boss@elsewhere.example"}, From: "mxcert@mx.example.org", Relay: relay})
		before := len(w.letters(w.relay(server)))
		var err error
		w.check(w.Sender.Do(func() { err = channel.Send(t.Context(), m) })) // one address: no other goroutine dials
		if err != nil {
			t.Errorf("%s: %v", server, err)
			continue
		}
		const letters = 2 // one for each recipient, and nobody else gets one
		w.within(20*time.Second, "the mails arrive", func() bool { return len(w.letters(w.relay(server))) >= before+letters })
		list := w.letters(w.relay(server))[before:]
		if len(list) != letters {
			t.Errorf("%s: %d mails", server, len(list))
		}
		for _, l := range list {
			w.wellFormed(server, l)
			subject, err := new(mime.WordDecoder).DecodeHeader(l.Header.Get("Subject"))
			if err != nil || !strings.HasPrefix(subject, "bücher Bcc: all@elsewhere.example . QUIT long") || l.Header.Get("To") != "<ops@elsewhere.example>, <boss@elsewhere.example>" {
				t.Errorf("%s: %q, %v, to %q", server, subject, err, l.Header.Get("To"))
			}
			if text := strings.ReplaceAll(l.text, "\r\n", "\n"); !strings.HasPrefix(text, "Grüße\n.\n..\nFrom here\nlang lang ") || !strings.HasSuffix(text, "\nBcc: all@elsewhere.example\n\n.\nQUIT\n") {
				t.Errorf("%s: %.60q … %q", server, text, text[max(0, len(text)-60):])
			}
		}
	}
}

// silence: a relay that takes a connection and says nothing, or stops in the middle, is left in time, with what an operator has to know.
func silence(t *testing.T, w *town) {
	for name, opening := range map[string]string{"at once": "", "after its greeting": "220 silent.example ESMTP\r\n"} {
		var listener net.Listener
		var failed error
		w.check(w.Receiver.Do(func() { listener, failed = net.Listen("tcp", "198.51.100.25:587") }))
		w.check(failed)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(opening))
				defer conn.Close() // when the listener ends
			}
		}()
		w.check(w.Here.Write("/etc/hosts", w.hosts+"198.51.100.25 silent.example\n", 0o644))
		w.configure(`notify: [{name: desk, mail: {to: ops@elsewhere.example, via: {smtp: "silent.example:587", user: mxcert, password: "cred:relay"}}}]` + "\n")
		list, result := w.notify("--timeout", "1s")
		if s := list["desk"]; s.OK || s.Code != 75 || result.Code != 75 || !strings.Contains(s.Error, "the relay silent.example:587 does not answer: ") || !strings.Contains(s.Error, "in time") || s.Hint == "" {
			t.Errorf("%s: exit %d, %+v", name, result.Code, s)
		}
		w.check(listener.Close())
	}
}

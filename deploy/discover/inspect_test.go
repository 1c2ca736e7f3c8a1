package discover

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/deploy"
)

// TestInspect: what is an objection, what is a note, and what is not asked.
func TestInspect(t *testing.T) {
	const (
		reads  = "[ \"$1\" = -bV ] || echo 'tls_certificate = /a.pem\ntls_advertise_hosts = *'\n"
		broken = "[ \"$1\" = -bV ] && { echo 'Exim configuration error in line 9' >&2; exit 1; }\n" + reads
		silent = "exit 1\n"
	)
	exim := deploy.Target{Kind: "exim", Combined: "/b.pem", Unit: "exim4.service"}
	read, unchecked, files, unnamed := exim, exim, exim, exim
	read.Combined, unchecked.Unchecked, files.Kind, unnamed.Unit = "/a.pem", true, "files", ""
	for _, tt := range []struct {
		what, script   string
		target         deploy.Target
		sound, certain bool
		kind           string // of the objection; "": none
		says           string // the objection or the note; "": neither
	}{
		{"it reads the file", reads, read, true, true, "", ""},
		{"it reads another", reads, exim, true, true, "not-read", "Exim does not read /b.pem: it reads /a.pem"},
		{"it reads another, says a user", reads, exim, true, false, "", "Exim does not read /b.pem"},
		{"unchecked", reads, unchecked, true, true, "", ""},
		{"no mail server", reads, files, true, true, "", ""},
		{"broken", broken, exim, true, true, "broken-configuration", "exim4.service: the configuration of Exim is not in order"},
		{"broken, without a unit", broken, unnamed, true, true, "broken-configuration", "the configuration of Exim is not in order"},
		{"broken, before an order", broken, exim, false, true, "", "exim4.service: the configuration of Exim is not in order"},
		{"broken, says a user", broken, read, true, false, "", ""},
		{"it does not answer", silent, exim, true, true, "", "exim4 -bP"},
		{"it does not answer a user", silent, exim, true, false, "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			program(t, "exim4", tt.script)
			i := &inspection{want: Wanted{Names: []string{"mx.example.org"}, Targets: of(tt.target)}, sound: tt.sound, certain: tt.certain}
			i.inspect(t.Context())
			err := errors.Join(i.problems...)
			objection, ok := errors.AsType[*Error](err)
			if ok != (tt.kind != "") || ok && (objection.Kind() != tt.kind || objection.Hint() == "") {
				t.Errorf("got %v", err)
			}
			said := strings.Join(i.notes, "\n")
			if ok {
				said = err.Error()
			}
			if !strings.Contains(said, tt.says) || tt.says == "" && said != "" || tt.certain && ok && len(i.notes) != 0 {
				t.Errorf("got %v and %q", err, i.notes)
			}
		})
	}
}

// TestInspectReadable: the files are right, but the server's user may not read them.
func TestInspectReadable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's answers count")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mx.pem")
	program(t, "exim4", "[ \"$1\" = -bV ] || echo 'tls_certificate = "+path+"\ntls_advertise_hosts = *\nexim_user = daemon'\n")
	notes, err := Inspect(t.Context(), Wanted{Targets: of(deploy.Target{Kind: "exim", Combined: path}), Names: []string{"mx.example.org"}}, nil, true)
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok || e.Kind() != "unreadable" || len(notes) != 0 {
		t.Errorf("%q, %v", notes, err)
	}
}

// Dovecot's listeners are read as both generations print them.
func TestDovecotListeners(t *testing.T) {
	const old = "service imap-login {\n  chroot = login\n  inet_listener imap {\n    address = \n    haproxy = no\n    port = 143\n  }\n  inet_listener imaps {\n    address = 127.0.0.1 [::1]\n    haproxy = yes\n    port = 993\n    ssl = yes\n  }\n  protocol = imap\n}\n" +
		"service lmtp {\n  inet_listener {\n    port = 0\n  }\n  protocol = lmtp\n}\nservice managesieve-login {\n  inet_listener sieve {\n    address = *\n    port = 4190\n  }\n  protocol = sieve\n}\n"
	const new24 = "service imap-login {\n  imap_capability {\n    IDLE = yes\n  }\n  protocol = imap\n  inet_listener imaps {\n    haproxy = yes\n    port = 993\n    listen = 127.0.0.1 ::1\n  }\n  unix_listener \"srv.imap-login/%{pid}\" {\n    mode = 0600\n  }\n}\n"
	for _, tt := range []struct {
		out, endpoint, protocol string
		proxied                 bool
	}{
		{old, "127.0.0.1:143", "imap", false}, {old, "[::1]:143", "imap", false}, {old, "127.0.0.1:993", "imap", true}, {old, "[::1]:993", "imap", true}, {old, "localhost:993", "imap", true},
		{old, "127.0.0.2:993", "", false}, {old, "127.0.0.1:4190", "sieve", false}, {old, "[::1]:4190", "", false}, {old, "127.0.0.1:0", "", false}, {old, "192.0.2.1:143", "", false},
		{new24, "127.0.0.1:993", "imap", true}, {new24, "[::1]:993", "imap", true}, {new24, "127.0.0.1:143", "", false}, {"", "127.0.0.1:143", "", false}, {"}\n}\n", "127.0.0.1:143", "", false},
	} {
		listeners := parseListeners(tt.out)
		l, _ := listenerAt(listeners, tt.endpoint)
		err := proxiedListener(listeners, []string{tt.endpoint})
		if l.protocol != tt.protocol || l.proxied != tt.proxied || (err != nil) != tt.proxied || err != nil && !strings.Contains(err.Error(), tt.endpoint+" expects the PROXY protocol, so that mxcert cannot shake hands there (haproxy = yes in") {
			t.Errorf("%s: %+v, %v", tt.endpoint, l, err)
		}
	}
}

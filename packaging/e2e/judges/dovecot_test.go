package judges

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// dovecotRows are served by Dovecot on 143 and 993. want is what openssl and mxcert say of the certificate (pkix), on both ports.
var dovecotRows = []row{
	{id: "imap-good", what: "all well", want: "ok +deliver"},
	{id: "imap-rsa", what: "an RSA key", leaf: leaf{key: "rsa2048"}, want: "ok +deliver"},
	{id: "imap-wrong-name", what: "another name", leaf: leaf{names: []string{"other.example"}}, want: "62 !skip"},
	{id: "imap-bare", what: "the intermediate is missing", send: "leaf", want: "21 !skip"},
	{id: "imap-expired", what: "the leaf has expired", leaf: leaf{until: -2 * day}, want: "10 !skip"},
	{id: "imap-self-signed", what: "self-signed", leaf: leaf{selfSig: true}, send: "leaf", want: "18 !skip"},
}

// dovecotConfiguration is for Dovecot 2.3 or, from Debian 13 on, 2.4. The first seat has the certificate of all addresses without their own.
func dovecotConfiguration(seats []*seat, release mailhost.Release) string {
	head, certificate := "protocols = imap\npassdb {\ndriver = static\nargs = nopassword=y\n}\n", "ssl_cert = </etc/judges/%[1]s.pem\nssl_key = </etc/judges/%[1]s.pem\n"
	if release == mailhost.Debian13 {
		head = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\nprotocols {\nimap = yes\n}\npassdb static {\npassword = none\n}\n"
		certificate = "ssl_server_cert_file = /etc/judges/%[1]s.pem\nssl_server_key_file = /etc/judges/%[1]s.pem\n"
	}
	c := head + "ssl = yes\nlog_path = /var/log/dovecot.log\n" + fmt.Sprintf(certificate, seats[0].id)
	for _, s := range seats {
		c += "local " + s.ip + " {\n" + fmt.Sprintf(certificate, s.id) + "}\n"
	}
	return c
}

func serveDovecot(ctx context.Context, h *world.Host, seats []*seat, release mailhost.Release) error {
	for _, s := range seats {
		files, err := s.files()
		if err != nil {
			return err
		}
		if err := h.Write("/etc/judges/"+s.id+".pem", files[".pem"], 0o600); err != nil {
			return err
		}
		if err := h.AddAddress(s.ip + "/24"); err != nil {
			return err
		}
	}
	if err := h.Write("/etc/dovecot/judges.conf", dovecotConfiguration(seats, release), 0o644); err != nil {
		return err
	}
	p, err := h.Start("dovecot", "-F", "-c", "/etc/dovecot/judges.conf")
	if err != nil {
		return err
	}
	for _, port := range []string{":143", ":993"} {
		if err := h.AwaitPort(ctx, seats[0].ip+port); err != nil {
			log, _ := h.Read("/var/log/dovecot.log")
			return fmt.Errorf("%w\n%s%s", err, p.Output(), log)
		}
	}
	return nil
}

// TestDovecot compares mxcert with openssl at the ports of Dovecot.
func TestDovecot(t *testing.T) {
	mailhost.Require(t)
	p, err := newPKI(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seats, err := seatsOf(dovecotRows, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	w := openNames(ctx, t, p, seats)
	if err := serveDovecot(ctx, w.Receiver, seats, w.Release); err != nil {
		t.Fatal(err)
	}
	for _, s := range seats {
		for port, how := range map[string][]string{"143": {"-starttls", "imap"}, "993": nil} {
			argv := append([]string{"timeout", "15", "openssl", "s_client", "-connect", s.ip + ":" + port, "-servername", s.host(),
				"-verify_hostname", s.host(), "-CAfile", "/etc/judges/anchors.pem"}, how...)
			r, err := w.Sender.RunInput(ctx, "a LOGOUT\r\n", argv...)
			if err != nil {
				t.Fatal(err)
			}
			got := opensslAnswer(r.Stdout+r.Stderr) + " " + pkixAt(ctx, t, w.Sender, s.host(), port)
			if got != s.want {
				log, _ := w.Receiver.Read("/var/log/dovecot.log")
				t.Fatalf("%s (%s), port %s: got %s, want %s\n%s", s.id, s.what, port, got, s.want, log)
			}
		}
	}
}

// pkixAt is what mxcert verify says of a host's certificate at a port.
func pkixAt(ctx context.Context, t *testing.T, h *world.Host, host, port string) string {
	r, err := h.Run(ctx, "/usr/bin/mxcert", "verify", "--json", "--resolver", "127.0.0.1:53", "--roots", "/etc/judges/anchors.pem", "--host", host, "--port", port)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil || len(d.Hosts) != 1 {
		t.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
	}
	v := d.Hosts[0].Verdicts["pkix"]
	return strings.TrimSpace(v.sign() + v.Action)
}

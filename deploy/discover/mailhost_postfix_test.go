//go:build mailhost

package discover

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mxcert/deploy"
)

// keepPostfix takes back what a test does to Postfix.
func keepPostfix(t *testing.T) {
	t.Helper()
	for _, file := range []string{"main.cf", "master.cf"} {
		text, err := os.ReadFile("/etc/postfix/" + file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile("/etc/postfix/"+file, text, 0o644) })
	}
}

// served shakes hands with a port as a client that asks for a name, and returns the name of the certificate.
func served(t *testing.T, port, name string) string {
	t.Helper()
	starttls := "-starttls smtp"
	switch port {
	case "465", "993":
		starttls = ""
	case "143", "1143":
		starttls = "-starttls imap"
	}
	out, err := exec.Command("sh", "-c", "sleep 0.1; openssl s_client -connect 127.0.0.1:"+port+" -servername "+name+" "+starttls+" </dev/null 2>&1 | openssl x509 -noout -subject").CombinedOutput()
	if err != nil {
		t.Errorf("no certificate at port %s: %s", port, out)
	}
	_, subject, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(string(out)), " ", ""), "CN=") // OpenSSL 3.5 writes no spaces
	return subject
}

// dovecotLines returns the lines with which the Dovecot of this host reads a pair.
func dovecotLines(t *testing.T, certificate, key string) string {
	t.Helper()
	program, err := find("doveconf")
	if err != nil {
		t.Fatal(err)
	}
	d := dovecotOf(t.Context(), program)
	return d.certificate + " = " + d.prefix + certificate + "\n" + d.key + " = " + d.prefix + key + "\n"
}

// issue makes a certificate and its key, in the files of a pair and in one file.
func issue(t *testing.T, name string) (combinedPath, certificate, key string) {
	t.Helper()
	base := filepath.Join("/etc/postfix/tls", name)
	shell(t, "cd /etc/postfix/tls && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN="+name+" -keyout "+base+".key -out "+base+".crt 2>/dev/null && cat "+base+".key "+base+".crt >"+base+".pem && chmod 600 "+base+".*")
	return base + ".pem", base + ".crt", base + ".key"
}

// commandOf returns the command of a hint.
func commandOf(t *testing.T, text, before string) string {
	t.Helper()
	_, command, ok := strings.Cut(text, before)
	command, _, _ = strings.Cut(command, "; or ")
	if !ok {
		t.Fatalf("no command: %s", text)
	}
	return command
}

// The commands of the hints, as they are written, lead to a Postfix that shows the certificate on all ports, with TLS switched on or not,
// and keeps the maps that it has.
func TestMailhostPostfixHints(t *testing.T) {
	one, crt, key := issue(t, "wanted")
	_, oldCrt, oldKey := issue(t, "old")
	for _, tt := range []struct {
		what, prepare string
		target        deploy.Target
		name          string // that the client asks for
	}{
		{"one file", "true", both(one), "mx.example.org"},
		{"a pair", "true", pair(crt, key), "mx.example.org"},
		{"the older settings", "postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_cert_file=" + oldCrt + " smtpd_tls_key_file=" + oldKey, pair(crt, key), "mx.example.org"},
		{"no TLS", "postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_security_level=none", both(one), "mx.example.org"},
		{"a map", "true", mapped(both(one), "hash:/etc/postfix/hint_a"), ""},
		{"a map beside others", "printf 'x.example.org " + oldKey + " " + oldCrt + "\n' >/etc/postfix/hint_other; postmap -F hash:/etc/postfix/hint_other; postconf -e 'tls_server_sni_maps = hash:/etc/postfix/hint_other, inline:{ {y.example.org = " + oldKey + ", " + oldCrt + "} }'", mapped(both(one), "hash:/etc/postfix/hint_b"), "x.example.org"},
		{"a map of a Postfix without a certificate", "postconf -X smtpd_tls_chain_files", mapped(both(one), "hash:/etc/postfix/hint_c"), "mx.example.org"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			keepPostfix(t)
			shell(t, tt.prepare)
			w := Wanted{Targets: of(tt.target), Names: []string{"mx.example.org"}, Endpoints: []string{"127.0.0.1:25", "127.0.0.1:465", "127.0.0.1:587"}}
			look := func() error {
				_, err := must(Look(t.Context(), kindPostfix, w)).Compare(w.Targets, w.Names)
				return err
			}
			for i := 0; i < 2 && hint(look()) != ""; i++ { // for a map of a bare Postfix, two hints
				shell(t, commandOf(t, hint(look()), "make it read them: "))
			}
			if err := look(); err != nil {
				t.Fatalf("after the hint: %v, hint %s", err, hint(err))
			}
			shell(t, "postfix check && (systemctl is-active postfix@- || systemctl show -p SubState postfix | grep running)") // on Debian 12, and on 13
			for _, port := range []string{"25", "465", "587"} {
				want := map[string]string{"mx.example.org": "wanted", "x.example.org": "old"}[tt.name]
				if got := served(t, port, "mx.example.org"); tt.name == "mx.example.org" && got != want {
					t.Errorf("port %s shows %q, want %q", port, got, want)
				}
				if tt.name == "x.example.org" && served(t, port, tt.name) != want {
					t.Errorf("port %s shows another certificate for the name of the other map", port)
				}
			}
		})
	}
}

// What Postfix shows instead is known before the order; the command of the hint helps.
func TestMailhostPostfixFurther(t *testing.T) {
	one, crt, key := issue(t, "wanted")
	_, oldCrt, oldKey := issue(t, "old")
	chain := "postconf -e 'smtpd_tls_chain_files = " + key + ", " + crt + "'; "
	maps := func(entry, kind string) string {
		return chain + "printf '" + entry + " " + oldKey + " " + oldCrt + "\n' >/etc/postfix/sni_map; postmap -F " + kind + ":/etc/postfix/sni_map; postconf -e 'tls_server_sni_maps = " + kind + ":/etc/postfix/sni_map'"
	}
	const own = "postconf -M submission/inet='submission inet n - y - - smtpd -o smtpd_tls_chain_files=/etc/postfix/tls/old.pem'"
	for _, tt := range []struct {
		what, prepare string
		target        deploy.Target
		endpoints     string
		kind, says    string // "": nothing
		before        string // the command of the hint
		port          string // which then shows the certificate
	}{
		{"a map with the name", maps("mx.example.org", "hash"), pair(crt, key), "127.0.0.1:25", "not-read", "hash:/etc/postfix/sni_map", "", ""},
		{"a map in capitals", maps("MX.example.org", "hash"), pair(crt, key), "127.0.0.1:25", "not-read", "hash:/etc/postfix/sni_map", "", ""},
		{"a map with the domain", maps(".example.org", "hash"), pair(crt, key), "127.0.0.1:25", "not-read", "hash:/etc/postfix/sni_map", "", ""},
		{"a map without compilation", chain + "postconf -e 'tls_server_sni_maps = inline:{ {mx.example.org = " + oldKey + ", " + oldCrt + "} }'", pair(crt, key), "127.0.0.1:25", "not-read", "inline:", "", ""},
		{"a map with another name", maps("imap.example.org", "hash"), pair(crt, key), "127.0.0.1:25", "", "", "", ""},
		{"our map", maps("mx.example.org", "hash"), mapped(both(one), "hash:/etc/postfix/sni_map"), "127.0.0.1:25", "", "", "", ""},
		{"our map, and the domain in another", maps(".example.org", "hash") + "; postconf -e 'tls_server_sni_maps = hash:/etc/postfix/sni_map, hash:/etc/postfix/ours'", mapped(both(one), "hash:/etc/postfix/ours"), "127.0.0.1:25", "", "", "", ""},
		{"our map, and the name in an earlier one", maps("mx.example.org", "hash") + "; postconf -e 'tls_server_sni_maps = hash:/etc/postfix/sni_map, hash:/etc/postfix/ours'", mapped(both(one), "hash:/etc/postfix/ours"), "127.0.0.1:25", "not-read", "hash:/etc/postfix/sni_map", "", ""},
		{"a map of one service", maps("mx.example.org", "hash") + "; postconf -X tls_server_sni_maps; postconf -M submission/inet='submission inet n - y - - smtpd -o tls_server_sni_maps=hash:/etc/postfix/sni_map'", pair(crt, key), "127.0.0.1:25 127.0.0.1:587", "not-read", "hash:/etc/postfix/sni_map", "", ""},
		{"a map of one service, at another port", maps("mx.example.org", "hash") + "; postconf -X tls_server_sni_maps; postconf -M submission/inet='submission inet n - y - - smtpd -o tls_server_sni_maps=hash:/etc/postfix/sni_map'", pair(crt, key), "127.0.0.1:25", "", "", "", ""},
		{"a map that the service does not have", maps("mx.example.org", "hash") + "; postconf -M submission/inet='submission inet n - y - - smtpd -o tls_server_sni_maps='", pair(crt, key), "127.0.0.1:587", "", "", "", ""},
		{"our map, of one service", maps("mx.example.org", "hash") + "; postconf -X tls_server_sni_maps; postconf -M submission/inet='submission inet n - y - - smtpd -o tls_server_sni_maps=hash:/etc/postfix/sni_map'", mapped(both(one), "hash:/etc/postfix/sni_map"), "127.0.0.1:587", "", "", "", ""},
		{"a service of its own", chain + own, pair(crt, key), "127.0.0.1:25 127.0.0.1:587", "not-read", "submission/inet", "make it read what the other services read: ", "587"},
		{"a service of its own, by a macro", chain + "postconf -e 'mine = /etc/postfix/tls/old.pem'; postconf -M submission/inet='submission inet n - y - - smtpd -o smtpd_tls_chain_files=$mine'", pair(crt, key), "[::1]:587", "not-read", "old.pem", "make it read what the other services read: ", "587"},
		{"a service of its own, by the older settings", "postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_cert_file=" + crt + " smtpd_tls_key_file=" + key + "; postconf -M submission/inet='submission inet n - y - - smtpd -o { smtpd_tls_cert_file = " + oldCrt + " } -o smtpd_tls_key_file=" + oldKey + "'", pair(crt, key), "127.0.0.1:587", "not-read", "old.crt", "make it read what the other services read: ", "587"},
		{"a service of its own that is no endpoint", chain + own, pair(crt, key), "127.0.0.1:25", "", "", "", ""},
		{"a service of its own on another host", chain + own, pair(crt, key), "192.0.2.1:587", "", "", "", ""},
		{"a service by number, that reads the target", chain + "postconf -M 2587/inet='2587 inet n - y - - smtpd -o smtpd_tls_chain_files=" + one + "'", both(one), "127.0.0.1:2587", "not-read", "does not read", "make it read them: ", ""},
		{"PROXY protocol", chain + "postconf -e smtpd_upstream_proxy_protocol=haproxy", pair(crt, key), "127.0.0.1:25", "proxy-protocol", "smtpd_upstream_proxy_protocol = haproxy", "", ""},
		{"PROXY protocol at one port", chain + "postconf -M 127.0.0.1:10025/inet='127.0.0.1:10025 inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=haproxy'", pair(crt, key), "127.0.0.1:25 127.0.0.1:10025", "proxy-protocol", "127.0.0.1:10025 expects", "", ""},
		{"PROXY protocol at another address", chain + "postconf -M 192.0.2.9:25/inet='192.0.2.9:25 inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=haproxy'", pair(crt, key), "127.0.0.1:25", "", "", "", ""},
		{"PROXY protocol of postscreen", chain + "postconf -e postscreen_upstream_proxy_protocol=haproxy; postconf -M smtp/inet='smtp inet n - y - 1 postscreen'", pair(crt, key), "127.0.0.1:25", "proxy-protocol", "postscreen_upstream_proxy_protocol", "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			keepPostfix(t)
			shell(t, tt.prepare)
			w := Wanted{Targets: of(tt.target), Names: []string{"mx.example.org"}, Endpoints: strings.Fields(tt.endpoints)}
			_, err := must(Look(t.Context(), kindPostfix, w)).Compare(w.Targets, w.Names)
			objection, ok := errors.AsType[*Error](err)
			if ok != (tt.kind != "") || ok && (objection.Kind() != tt.kind || !strings.Contains(err.Error(), tt.says) || objection.Hint() == "" || strings.Contains(err.Error()+objection.Hint(), "PRIVATE KEY")) {
				t.Fatalf("got %v, hint %q", err, hint(err))
			}
			if tt.before != "" {
				shell(t, commandOf(t, objection.Hint(), tt.before))
				if _, err := must(Look(t.Context(), kindPostfix, w)).Compare(w.Targets, w.Names); err != nil {
					t.Errorf("after the hint: %v", err)
				}
			}
			if tt.port != "" && served(t, tt.port, "mx.example.org") != "wanted" {
				t.Errorf("port %s shows another certificate after the hint", tt.port)
			}
		})
	}
	t.Run("a map that is not compiled", func(t *testing.T) {
		keepPostfix(t)
		shell(t, chain+"postconf -e 'tls_server_sni_maps = hash:/etc/postfix/not_there'")
		w := Wanted{Targets: of(pair(crt, key)), Names: []string{"mx.example.org"}}
		notes, err := must(Look(t.Context(), kindPostfix, w)).Compare(w.Targets, w.Names)
		if err != nil || !strings.Contains(strings.Join(notes, "\n"), "cannot be told") {
			t.Errorf("%v, %q", err, notes)
		}
	})
}

// Dovecot's blocks by protocol and address are seen before an order.
func TestMailhostDovecotBlocks(t *testing.T) {
	const local = "/etc/dovecot/local.conf"
	before, err := os.ReadFile(local)
	if err != nil {
		t.Fatal(err)
	}
	_, crt, key := issue(t, "wanted")
	lines := dovecotLines(t, crt, key)
	address := map[bool]string{true: "address", false: "listen"}[strings.Contains(lines, "<")] // 2.3, 2.4
	block := func(head string) string {
		return head + " {\n" + dovecotLines(t, "/etc/dovecot/tls/mx.crt", "/etc/dovecot/tls/mx.key") + "}\n"
	}
	listener := func(name, settings string) string {
		return "service imap-login {\n inet_listener " + name + " {\n " + settings + "\n }\n}\n"
	}
	for _, tt := range []struct{ what, more, endpoints, says string }{
		{"no block", "", "127.0.0.1:143 [::1]:993", ""},
		{"an address", block("local 127.0.0.1"), "127.0.0.1:993", "at 127.0.0.1:993"},
		{"a network", block("local 127.0.0.0/8"), "localhost:993", "at localhost:993"},
		{"another address", block("local 127.0.0.1"), "[::1]:993", ""},
		{"a protocol", block("protocol imap"), "127.0.0.1:143", "at 127.0.0.1:143"},
		{"another protocol", block("protocol pop3"), "127.0.0.1:143", ""},
		{"a name in an address", block("local 127.0.0.1 {\n local_name mx.example.org") + "}\n", "127.0.0.1:993", "at 127.0.0.1:993"},
		{"another name in an address", block("local 127.0.0.1 {\n local_name imap.example.org") + "}\n", "127.0.0.1:993", ""},
		{"an endpoint elsewhere", block("local 127.0.0.1"), "192.0.2.1:993", ""},
		{"a protocol at a port of its own", block("protocol imap") + listener("imap_own", "port = 1143"), "127.0.0.1:1143", "at 127.0.0.1:1143"},
		{"a proxy", listener("imaps", "haproxy = yes"), "127.0.0.1:993", "127.0.0.1:993 expects the PROXY protocol"},
		{"a trusted proxy", listener("imap", "haproxy = yes") + "haproxy_trusted_networks = 127.0.0.0/8\n", "127.0.0.1:143", "expects the PROXY protocol"},
		{"a proxy at another port", listener("proxied", "port = 1993\n haproxy = yes"), "127.0.0.1:993", ""},
		{"a proxy at another address", listener("proxied", "port = 1993\n haproxy = yes\n "+address+" = ::1"), "127.0.0.1:1993 127.0.0.1:993", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			put(t, local, string(before)+lines+tt.more)
			shell(t, "systemctl reload dovecot")
			w := Wanted{Targets: of(pair(crt, key)), Names: []string{"mx.example.org"}, Endpoints: strings.Fields(tt.endpoints)}
			_, err := must(Look(t.Context(), kindDovecot, w)).Compare(w.Targets, w.Names)
			if (err != nil) != (tt.says != "") || err != nil && (!strings.Contains(err.Error(), tt.says) || hint(err) == "") {
				t.Errorf("got %v, hint %q", err, hint(err))
			}
			host, port, _ := strings.Cut(tt.endpoints, ":")
			if host != "127.0.0.1" || strings.Contains(port, " ") {
				return
			}
			if strings.Contains(tt.says, "PROXY") {
				if out, err := exec.Command("sh", "-c", "sleep 0.1; openssl s_client -connect 127.0.0.1:"+port+" </dev/null 2>&1 | openssl x509 -noout").CombinedOutput(); err == nil {
					t.Errorf("Dovecot shows a certificate without the PROXY protocol: %s", out)
				}
				return
			}
			if got := served(t, port, "mx.example.org") == "wanted"; got != (tt.says == "") {
				t.Errorf("Dovecot shows the certificate: %v", got)
			}
		})
	}
}

// The lines of the hint, as they are written, make Dovecot show the certificate, wherever its configuration sets another.
func TestMailhostDovecotHints(t *testing.T) {
	before, err := os.ReadFile("/etc/dovecot/local.conf")
	if err != nil {
		t.Fatal(err)
	}
	var without []string
	for _, line := range strings.Split(string(before), "\n") {
		if !strings.HasPrefix(line, "ssl_") {
			without = append(without, line)
		}
	}
	lines := dovecotLines(t, "/etc/dovecot/tls/mx.crt", "/etc/dovecot/tls/mx.key")
	_, crt, key := issue(t, "wanted")
	w := Wanted{Targets: of(pair(crt, key)), Names: []string{"mx.example.org"}, Endpoints: []string{"127.0.0.1:143", "127.0.0.1:993"}}
	for what, files := range map[string]map[string]string{
		"in local.conf":           {"/etc/dovecot/local.conf": string(before)},
		"in a file of its own":    {"/etc/dovecot/local.conf": strings.Join(without, "\n"), "/etc/dovecot/conf.d/99-mine.conf": lines},
		"as Debian ships Dovecot": {"/etc/dovecot/local.conf": strings.Join(without, "\n")},
	} {
		t.Run(what, func(t *testing.T) {
			for path, text := range files {
				put(t, path, text)
			}
			_, err := must(Look(t.Context(), kindDovecot, w)).Compare(w.Targets, w.Names)
			steps, commands, _ := strings.Cut(hint(err), ", then: ")
			file := regexp.MustCompile(`at the end of (\S+)`).FindStringSubmatch(steps)
			if file == nil {
				t.Fatalf("%v, hint %s", err, hint(err))
			}
			text, err := os.ReadFile(file[1])
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(steps, -1) {
				text = append(text, "\n"+line[1]+"\n"...)
			}
			put(t, file[1], string(text))
			commands, _, _ = strings.Cut(commands, "; or ")
			shell(t, "doveconf -n >/dev/null && "+commands)
			for _, port := range []string{"143", "993"} {
				if got := served(t, port, "mx.example.org"); got != "wanted" {
					t.Errorf("port %s shows %q", port, got)
				}
			}
		})
	}
}

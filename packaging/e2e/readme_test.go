package e2e

import (
	_ "embed"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The walk of a newcomer: what README says under "A first configuration" is taken from its text and done as it is written, on a host
// with the servers as Debian configures them. The host has the addresses and the CA that README names, so that nothing is replaced.
func TestReadme(t *testing.T) {
	for _, tt := range []struct {
		what   string
		server mailhost.Server
		stock  string // makes the servers what a fresh Debian has
		ports  []string
		config string // the heading of the configuration's targets in README
	}{
		{"Exim", mailhost.Exim, stockExim, endpoints("exim"), "exim"},
		{"Postfix and Dovecot", mailhost.Postfix, stockPostfix, append(endpoints("postfix"), endpoints("dovecot")...), "postfix"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			s := begin(t, options{bare: true, server: tt.server})
			w := &walk{s, readReadme(t)}
			must(t, s.Host, "sh", "-ec", tt.stock)
			w.placeLikeReadmes()
			w.install()
			w.openTheZone()
			w.configure(tt.config)
			w.firstCertificate()
			w.shownAt(tt.ports)
			w.everyDay()
			w.shownAt(tt.ports)
		})
	}
}

const (
	// Debian's Exim has no certificate and offers no STARTTLS.
	stockExim = `cd /etc/exim4; rm exim.crt exim.key; sed -i '/MAIN_TLS/d' exim4.conf.localmacros; update-exim4.conf; systemctl restart exim4`
	// Debian's Postfix and Dovecot have one that nobody trusts.
	stockPostfix = `rm -r /etc/postfix/tls /etc/dovecot/tls; sed -i '/ssl/d' /etc/dovecot/local.conf
		postconf -X smtpd_tls_chain_files; postconf -e smtpd_tls_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem smtpd_tls_key_file=/etc/ssl/private/ssl-cert-snakeoil.key
		systemctl restart postfix dovecot`
	// The names of Let's Encrypt lead to Pebble; the host trusts both, as a host trusts what its distribution trusts.
	letsEncrypt = `cd /root; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout front.key -out front.crt -days 30 -subj /CN=front \
			-addext subjectAltName=DNS:acme-v02.api.letsencrypt.org,DNS:acme-staging-v02.api.letsencrypt.org 2>&1
		echo '127.0.0.1 acme-v02.api.letsencrypt.org acme-staging-v02.api.letsencrypt.org' >>/etc/hosts
		cp front.crt /usr/local/share/ca-certificates/front.crt; cp /etc/pebble/roots.pem /usr/local/share/ca-certificates/pebble.crt; update-ca-certificates 2>&1
		systemd-run --quiet --unit letsencrypt python3 /root/letsencrypt.py /root/front.crt /root/front.key`
	// README's name server is at 192.0.2.53, and does not know mxcert yet.
	readmesBIND = `ip address add 192.0.2.53/32 dev lo; sed -i 's/listen-on {/listen-on { 192.0.2.53;/; /mxcert.key/d; s/grant mxcert. zonesub TXT TLSA;//' /etc/bind/named.conf
		rm /etc/bind/mxcert.key; systemctl restart named`
	sudo = "#!/bin/sh\nexec \"$@\"\n"
)

//go:embed letsencrypt.py
var letsEncryptFront []byte

// walk is a newcomer at a host, with README in hand.
type walk struct {
	*story
	readme []step
}

// step is a numbered step of README: its commands, and its configurations.
type step struct {
	commands []string // as they stand there, one a line; of lines that begin with # too
	yaml     []string
}

// readReadme takes the steps of "A first configuration" and, as the last, the block of "Every day".
func readReadme(t *testing.T) (steps []step) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, first, _ := strings.Cut(string(text), "\n## A first configuration")
	first, rest, _ := strings.Cut(first, "\n## ")
	_, daily, _ := strings.Cut(rest, "Every day\n")
	daily, _, _ = strings.Cut(daily, "\n## ")
	parts := append(regexp.MustCompile(`(?m)^\d+\. `).Split(first, -1)[1:], strings.ReplaceAll(daily, "\n    ", "\n        "))
	for _, part := range parts {
		var s step
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(part, -1) {
			s.yaml = append(s.yaml, strings.ReplaceAll("\n"+m[1], "\n   ", "\n")[1:])
		}
		for _, m := range regexp.MustCompile(`(?m)^ {8}(.*)$`).FindAllStringSubmatch(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(part, ""), -1) {
			s.commands = append(s.commands, m[1])
		}
		steps = append(steps, s)
	}
	if len(steps) != 5 {
		t.Fatalf("README has %d steps, and not 4 and the daily commands", len(steps))
	}
	return steps
}

// placeLikeReadmes gives the host README's addresses, and a sudo.
func (w *walk) placeLikeReadmes() {
	w.t.Helper()
	w.check(w.Put("/usr/local/bin/sudo", []byte(sudo), 0o755))
	w.check(w.Put("/root/letsencrypt.py", letsEncryptFront, 0o755))
	must(w.t, w.Host, "sh", "-ec", letsEncrypt)
	must(w.t, w.Host, "sh", "-ec", readmesBIND)
	within(w.t, 20*time.Second, "the names of Let's Encrypt answer", func() bool {
		r, err := w.Run(w.t.Context(), "openssl", "s_client", "-connect", "127.0.0.1:443", "-verify_return_error", "-CApath", "/etc/ssl/certs")
		return err == nil && r.Code == 0
	})
}

// does runs a command of README's, which has to end with one of the codes, and gives all it said.
func (w *walk) does(command, stdin string, codes ...int) string {
	w.t.Helper()
	r, err := w.RunInput(w.t.Context(), stdin, "sh", "-c", command)
	w.check(err)
	w.said.WriteString(r.Stdout + r.Stderr)
	w.t.Logf("$ %s\n%s%s(exit status %d)", command, r.Stderr, r.Stdout, r.Code)
	for _, code := range codes {
		if r.Code == code {
			return r.Stdout + r.Stderr
		}
	}
	w.t.Fatalf("%s: exit status %d", command, r.Code)
	return ""
}

// install is step 1; the package is made by the command that make deb runs first.
func (w *walk) install() {
	w.t.Helper()
	make, install, _ := strings.Cut(w.readme[0].commands[0], " && ")
	if make != "make deb" {
		w.t.Fatalf("step 1 is %q", w.readme[0].commands)
	}
	text, err := os.ReadFile(deb(w.t, "1.0"))
	w.check(err)
	w.check(w.Put("/root/dist/mxcert_1.0_amd64.deb", text, 0o644))
	w.does("cd /root; "+install, "", 0)
}

// openTheZone is step 2: commands, and in comments what the files of BIND get.
func (w *walk) openTheZone() {
	w.t.Helper()
	var comments []string
	var after []string
	for _, line := range w.readme[1].commands {
		switch {
		case strings.HasPrefix(line, "#"):
			comments = append(comments, strings.TrimSpace(line[1:]))
		case comments == nil:
			w.does(line, "", 0)
		default:
			after = append(after, line)
		}
	}
	m := regexp.MustCompile(`^in named.conf:\s+(.*?) in the zone:\s+update-policy \{ (.*) \};$`).FindStringSubmatch(strings.Join(comments, " "))
	if m == nil {
		w.t.Fatalf("step 2 says %q", comments)
	}
	text, err := w.Get("/etc/bind/named.conf")
	w.check(err)
	named := m[1] + "\n" + strings.ReplaceAll(string(text), "update-policy { ", "update-policy { "+m[2]+" ")
	w.check(w.Put("/etc/bind/named.conf", []byte(named), 0o644))
	for _, command := range after {
		w.does(command, "", 0)
	}
}

// configure is step 3, by hand.
func (w *walk) configure(targets string) {
	w.t.Helper()
	key, err := w.Get("/etc/bind/mxcert.key")
	w.check(err)
	secret := regexp.MustCompile(`secret "(.*)"`).FindSubmatch(key)
	if secret == nil {
		w.t.Fatal("tsig-keygen made no secret")
	}
	w.TSIGSecret = string(secret[1])
	yaml := w.readme[2].yaml[0]
	if targets != "exim" {
		before, _, _ := strings.Cut(yaml, "      - exim:")
		yaml = before + w.readme[2].yaml[1]
	}
	w.check(w.Put("/etc/mxcert/mxcert.yaml", []byte(yaml), 0o640))
	must(w.t, w.Host, "chgrp", "mxcert", "/etc/mxcert/mxcert.yaml")
	for _, command := range w.readme[2].commands {
		stdin := ""
		if strings.Contains(command, "paste the secret") {
			stdin = w.TSIGSecret + "\n"
		}
		w.does(command, stdin, 0)
	}
}

// firstCertificate is step 4: renew may end with 5, and then says what to change, which is done as it says.
func (w *walk) firstCertificate() {
	w.t.Helper()
	for _, command := range w.readme[3].commands {
		if !regexp.MustCompile(`^sudo mxcert renew\s+#`).MatchString(command) {
			w.does(command, "", 0)
			continue
		}
		for range 3 { // Postfix, Dovecot, and then all is done
			out := w.does(command, "", 0, 5)
			if !w.follow(out) {
				break
			}
		}
		w.does(command, "", 0)
	}
	within(w.t, 30*time.Second, "the daemon is up", func() bool { return w.property("ActiveState") == "active" })
}

// follow does what renew says about a server that does not read the files: lines for a file, and a command. It says whether there was
// something to do.
func (w *walk) follow(said string) bool {
	w.t.Helper()
	_, said, there := strings.Cut(strings.Join(strings.Fields(said), " "), " next step ")
	if !there {
		return false
	}
	said, _, _ = strings.Cut(said, "; or write ")
	_, command, _ := strings.Cut(said, ": ")
	if m := regexp.MustCompile("^(.*?)[;,] then: (.*)$").FindStringSubmatch(said); m != nil {
		edit := m[1]
		command = m[2]
		file := regexp.MustCompile(`/etc/[a-z0-9/.-]+[a-z]`).FindString(regexp.MustCompile("`[^`]*`").ReplaceAllString(edit, ""))
		for _, line := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(edit, -1) {
			must(w.t, w.Host, "sh", "-c", `echo "$1" >>"$2"`, "sh", line[1], file)
		}
	}
	w.does(command, "", 0)
	return true
}

// shownAt looks with openssl at the ports.
func (w *walk) shownAt(ports []string) {
	w.t.Helper()
	serial := w.report(0, "status").Certificates[0].Keys[0].Serial
	w.servedAt(serial, mailhost.RootsFile, ports...)
}

// everyDay runs the daily commands. The first prints the exit status alone.
func (w *walk) everyDay() {
	w.t.Helper()
	for i, command := range w.readme[4].commands {
		if out := w.does(command, "", 0); i == 0 && out != "0\n" {
			w.t.Errorf("%s prints %q", command, out)
		}
	}
}

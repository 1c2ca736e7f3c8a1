package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// container is a mail server without systemd and D-Bus: namespaces of its own for processes and mounts, an empty /run, and the network
// of the host with its CA and name servers.
type container struct {
	*story
	name string
}

// contain starts a container whose process 1 is a script, and gives the host a command that enters it as `docker exec` does.
func (s *story) contain(name, entrypoint string) *container {
	s.t.Helper()
	s.check(s.Put("/root/"+name, []byte(entrypoint), 0o755))
	s.check(s.Put("/usr/local/bin/docker", []byte(`#!/bin/sh
# docker exec NAME COMMAND…
shift; name=$1; shift
exec nsenter --target "$(cat "/root/$name.pid")" --mount --pid -- "$@"
`), 0o755))
	s.check(s.Put("/root/"+name+".sh", []byte(`mount -t tmpfs tmpfs /run; mkdir /run/lock /run/secrets; cp /etc/mxcert/credentials/tsig /run/secrets/tsig
exec /root/`+name+` >/root/`+name+`.log 2>&1
`), 0o755))
	must(s.t, s.Host, "sh", "-ec", fmt.Sprintf(`setsid unshare --mount --pid --fork --kill-child --mount-proc sh /root/%[1]s.sh </dev/null >/dev/null 2>&1 &
		outer=$!; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; pgrep -P $outer >/root/%[1]s.pid && break; done; cat /root/%[1]s.pid`, name))
	c := &container{story: s, name: name}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			log, _ := s.Get("/root/" + name + ".log")
			s.t.Logf("%s:\n%s", name, log)
		}
	})
	return c
}

// exec runs a command as it is written in mxcert(7).
func (c *container) exec(line string) mailhost.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := c.Run(ctx, "sh", "-c", line)
	c.check(err)
	c.t.Logf("%s: exit %d\n%s%s", line, r.Code, r.Stderr, r.Stdout)
	return r
}

// recipes are the blocks of mxcert(7) in a section, in their order.
func recipes(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../man/mxcert.7.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n# A MAIL SERVER IN A CONTAINER\n")
	section, _, _ = strings.Cut(section, "\n# ")
	var blocks []string
	for i, part := range strings.Split(section, "```\n") {
		if i%2 == 1 {
			blocks = append(blocks, part)
		}
	}
	if len(blocks) != 8 {
		t.Fatalf("mxcert(7) has %d recipes", len(blocks))
	}
	return blocks
}

// ofWorld puts the addresses of this world into a configuration of the manual page.
func ofWorld(config string) string {
	config = strings.Replace(config, "192.0.2.53:53", "127.0.0.1:53", 1)
	config = strings.Replace(config, "directory: letsencrypt", "directory: https://127.0.0.1:14000/dir\n  ca_file: /etc/pebble/ca.pem\n  roots_file: /etc/pebble/roots.pem", 1)
	config = strings.Replace(config, "certificates:", "  resolvers: [\"127.0.0.1:53\"]\ncertificates:", 1)
	return strings.Replace(config, "\"]}\n", "\"], timeout: 30s}\n", 1)
}

// bareServers stops what systemd runs of the mail server.
func (s *story) bareServers() {
	s.t.Helper()
	must(s.t, s.Host, "sh", "-ec", "systemctl stop postfix.service 'postfix@*.service' dovecot.service dovecot.socket 2>/dev/null || :; systemctl mask --runtime postfix.service dovecot.service")
}

// everyPort reports which serial all ports of a list serve; "" if they do not serve the same.
func (s *story) everyPort(addresses ...string) string {
	serial := ""
	for _, address := range addresses {
		served, err := s.ServedBy(s.t.Context(), address, "mx.example.org", mailhost.RootsFile)
		if err != nil || served.VerifyCode != 0 || serial != "" && served.Serial != serial {
			return ""
		}
		serial = served.Serial
	}
	return serial
}

// The recipe of mxcert(7) for a container with the mail server and mxcert, as it is written: process 1 is `mxcert run`, hooks reload
// Postfix and Dovecot, and there is neither systemd nor D-Bus.
func TestContainer(t *testing.T) {
	t.Parallel()
	s := begin(t, options{server: mailhost.Postfix})
	s.bareServers()
	r := recipes(t)
	config, hook, entrypoint, commands := ofWorld(r[0]), r[1], r[3], r[4]
	withUnits := strings.ReplaceAll(config, `, unit: ""`, "")
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(withUnits), 0o644))
	c := s.contain("mail", strings.Replace(entrypoint, "exec mxcert run", "exec sleep infinity", 1))
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:993"))
	const hint = `write unit: "" in that target`
	if out := c.exec("docker exec mail mxcert doctor"); out.Code != 3 || !strings.Contains(out.Stdout, hint) {
		t.Errorf("doctor with units: exit code %d", out.Code)
	}
	if out := c.exec("docker exec mail mxcert renew"); out.Code != 1 || !strings.Contains(out.Stdout, hint) || s.orders() != 0 {
		t.Errorf("renew with units: exit code %d, %d orders", out.Code, s.orders())
	}
	c.stop()

	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(config), 0o644))
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-reload", []byte(hook), 0o755))
	c = s.contain("mail", entrypoint)
	ports := []string{"127.0.0.1:25", "[::1]:25", "127.0.0.1:993", "[::1]:143"}
	first := ""
	within(t, time.Minute, "the first certificate on all ports", func() bool { first = s.everyPort(ports...); return first != "" })
	for line := range strings.Lines(commands) {
		if out := c.exec(line); out.Code != 0 {
			t.Errorf("%s: exit code %d", line, out.Code)
		}
	}
	if out := c.exec("docker exec mail mxcert renew --now --new-key"); out.Code != 0 || s.everyPort(ports...) == first {
		t.Errorf("renew --now by the daemon: exit code %d", out.Code)
	}
	second := s.everyPort(ports...)
	if out := must(t, s.Host, "docker", "exec", "mail", "ps", "-eo", "pid,stat,args"); !strings.Contains(out, "1 ") || strings.Contains(out, "<defunct>") {
		t.Errorf("processes:\n%s", out)
	}

	// Dovecot does not reload: both go back, and Postfix is told so by the same hook.
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-reload", []byte(strings.Replace(hook, "doveadm reload", "true", 1)), 0o755))
	if out := c.exec("docker exec mail mxcert renew --now --new-key"); out.Code != 5 || !strings.Contains(out.Stderr+out.Stdout, "the previous certificate is back in service") {
		t.Errorf("with a Dovecot that is not reloaded: exit code %d", out.Code)
	}
	if now := s.everyPort(ports...); now != second {
		t.Errorf("%q is served, want %s", now, second)
	}
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-reload", []byte("#!/bin/sh\nyes | head -c 3000000\nexit 1\n"), 0o755))
	if out := c.exec("docker exec mail mxcert renew"); out.Code != 5 || !strings.Contains(out.Stdout, "repair that hook") || len(out.Stdout)+len(out.Stderr) > 100_000 {
		t.Errorf("a hook that prints 3 MB and fails: exit code %d, %d bytes", out.Code, len(out.Stdout)+len(out.Stderr))
	}
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-reload", []byte(hook), 0o755))
	if out := c.exec("docker exec mail mxcert renew"); out.Code != 0 {
		t.Errorf("renew after the repair: exit code %d", out.Code)
	}
	last := s.everyPort(ports...)
	if last == "" || last == second {
		t.Errorf("%q is served after the repair", last)
	}

	// The container is stopped and started again: nothing is ordered.
	orders := s.orders()
	c.stop()
	c = s.contain("mail", entrypoint)
	within(t, time.Minute, "the container is back", func() bool { return s.everyPort(ports...) == last })
	if out := c.exec("docker exec mail mxcert renew"); out.Code != 0 || s.orders() != orders {
		t.Errorf("after a restart: exit code %d, %d orders more", out.Code, s.orders()-orders)
	}
	c.stop()
	s.noTXT()
}

// stop ends a container as `docker stop` does: SIGTERM to process 1, which has to end in time.
func (c *container) stop() {
	c.t.Helper()
	out := must(c.t, c.Host, "sh", "-c", fmt.Sprintf(`pid=$(cat /root/%s.pid); if grep -q sleep /proc/$pid/comm; then kill -9 $pid; else kill -TERM $pid; fi
		for i in $(seq 100); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done; echo "still there: $pid"`, c.name))
	if strings.TrimSpace(out) != "" {
		c.t.Error(out)
	}
	must(c.t, c.Host, "sh", "-c", "rm -f /var/spool/postfix/pid/master.pid /var/lib/dovecot/*.pid")
}

// The recipes for mxcert beside the container of the mail server: on the host, with a hook that reaches into the container; and in a
// container of its own, as a user without rights, when the mail server's container looks by itself.
func TestBesideAContainer(t *testing.T) {
	t.Parallel()
	s := begin(t, options{server: mailhost.Postfix, service: true})
	s.bareServers()
	r := recipes(t)
	head, _, _ := strings.Cut(ofWorld(r[0]), "    deploy:")
	config := strings.Replace(head, "file:/run/secrets/tsig", "cred:tsig", 1) + strings.Replace(r[5], "\"]}\n", "\"], timeout: 30s}\n", 1)
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(config), 0o644))
	hook, watcher := r[6], r[7]
	must(t, s.Host, "sh", "-ec", `install -d -m 0755 /srv/mail/tls; cp /etc/postfix/tls/mx.* /srv/mail/tls/
		postconf -e 'smtpd_tls_chain_files = /srv/mail/tls/mx.key, /srv/mail/tls/mx.crt'; sed -i 's,/etc/dovecot/tls,/srv/mail/tls,' /etc/dovecot/local.conf`)
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-reload", []byte(hook), 0o755))
	c := s.contain("mail", strings.Replace(r[3], "exec mxcert run", "exec sleep infinity", 1))
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:993"))
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	ports := []string{"127.0.0.1:25", "127.0.0.1:993"}
	first := ""
	within(t, time.Minute, "the first certificate", func() bool { first = s.everyPort(ports...); return first != "" })
	for _, command := range []string{"doctor", "renew --now --new-key", "status"} {
		if out := c.exec("mxcert " + command); out.Code != 0 {
			t.Errorf("mxcert %s on the host: exit code %d", command, out.Code)
		}
	}
	second := s.everyPort(ports...)
	if second == "" || second == first {
		t.Errorf("%q is served after %s", second, first)
	}
	must(t, s.Host, "systemctl", "stop", "mxcert.service")

	// A container of its own, as user 4711, that sees the volume and nothing of the mail server.
	s.check(s.Put("/root/watch", []byte(watcher), 0o755))
	must(t, s.Host, "sh", "-ec", "rm /etc/mxcert/hooks/deploy.d/10-reload; setsid docker exec mail sh /root/watch </dev/null >/root/watch.log 2>&1 & chown -R 4711:4711 /srv/mail/tls; install -d -o 4711 /srv/state")
	s.check(s.Put("/srv/mxcert.yaml", []byte(strings.Replace(config, "cred:tsig", "file:/run/secrets/tsig", 1)+"state: /srv/state\n"), 0o644))
	s.contain("own", "#!/bin/sh\nchown 4711 /run/secrets/tsig\nexec setpriv --reuid=4711 --regid=4711 --clear-groups --inh-caps=-all mxcert -c /srv/mxcert.yaml run\n")
	within(t, time.Minute, "the certificate of the container", func() bool { now := s.everyPort(ports...); return now != "" && now != second })
	if out := c.exec("docker exec own mxcert -c /srv/mxcert.yaml status -q"); out.Code != 0 {
		t.Errorf("status in the container: exit code %d", out.Code)
	}
	if out := must(t, s.Host, "find", "/srv/state", "!", "-user", "4711"); out != "" {
		t.Errorf("not of the user: %s", out)
	}
}

package e2e

import (
	"encoding/json"
	"net/mail"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// channelsConfig tells people in each way that needs nobody outside of the host.
const channelsConfig = hostConfig + `notify:
  - {name: desk, mail: {to: [root@localhost], from: mxcert@mx.example.org, via: sendmail}}
  - {name: slow, mail: {to: [slow@localhost], from: mxcert@mx.example.org, via: sendmail}}
  - {name: relay, mail: {to: [root@localhost], from: mxcert@mx.example.org, via: {smtp: "127.0.0.1:25"}}}
  - {name: page, exec: /usr/local/sbin/page}
  - {name: lost, exec: /usr/local/sbin/lost}
  - {name: chat, webhook: {url: "cred:chat-url"}}
`

// sentReport is what the tests read of `notify test --json`.
type sentReport struct {
	OK       bool `json:"ok"`
	Channels []struct {
		Name  string `json:"name"`
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		Hint  string `json:"hint"`
	} `json:"channels"`
}

// The service tells people by the sendmail of Exim, and of Postfix, although its own sandbox lets neither reach its queue: a helper runs it.
func TestBeingToldByMail(t *testing.T) {
	t.Parallel()
	for _, server := range []mailhost.Server{mailhost.Exim, mailhost.Postfix} {
		t.Run(string(server), func(t *testing.T) {
			t.Parallel()
			toldByMail(t, server)
		})
	}
}

func toldByMail(t *testing.T, server mailhost.Server) {
	config := channelsConfig
	if server == mailhost.Postfix {
		config = strings.Replace(config, "exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}", "files: {certificate: /var/lib/mxcert-keys/mx.crt, private_key: /var/lib/mxcert-keys/mx.key}", 1)
		config = strings.Replace(config, `{endpoints: ["127.0.0.1:25", "[::1]:25"], timeout: 60s}`, "{endpoints: []}", 1)
	}
	s := begin(t, options{service: true, config: config, server: server})
	s.check(s.Put("/usr/local/sbin/page", []byte("#!/bin/sh\nid -un > /root/paged\ncat >> /root/paged\n"), 0o755))
	// A delivery that takes longer than sendmail, as one to another host does: systemd must not end it with the helper.
	s.check(s.Put("/usr/local/sbin/slow", []byte("#!/bin/sh\nsleep 3\ncat >/tmp/slow\n"), 0o755))
	must(t, s.Host, "sh", "-ec", `echo slow:x:1234:1234::/home/slow:/bin/sh >>/etc/passwd; echo slow:x:1234: >>/etc/group
		install -d -o slow -g slow /home/slow; echo '"|/usr/local/sbin/slow"' >/home/slow/.forward; chown slow:slow /home/slow/.forward`)
	must(t, s.Host, "systemctl", "start", "mxcert.service")

	sent := func(code int, names ...string) (r sentReport) {
		t.Helper()
		result := s.mxcert(append([]string{"notify", "test", "--json"}, names...)...)
		if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil || result.Code != code {
			t.Fatalf("exit %d: %v\n%s%s", result.Code, err, result.Stdout, result.Stderr)
		}
		return r
	}
	r := sent(4)
	for _, c := range r.Channels {
		if works := c.Name != "lost" && c.Name != "chat"; c.OK != works || !works && (c.Error == "" || c.Hint == "") {
			t.Errorf("%+v", c)
		}
	}
	if paged := must(t, s.Host, "cat", "/root/paged"); !strings.HasPrefix(paged, "root\n{") || !strings.Contains(paged, `"event":"test"`) {
		t.Errorf("the program got %s", paged)
	}
	const boxes = "cat /var/mail/* /var/spool/mail/* 2>/dev/null | sort -u >/dev/null; cat /var/mail/* 2>/dev/null"
	within(t, 60*time.Second, "both mails arrive", func() bool {
		return strings.Count(must(t, s.Host, "sh", "-c", boxes+" || true"), "Auto-Submitted: auto-generated") >= 2
	})
	_, first, _ := strings.Cut(must(t, s.Host, "sh", "-c", boxes), "\n") // without the line "From "
	m, err := mail.ReadMessage(strings.NewReader(first))
	if err != nil || m.Header.Get("Message-Id") == "" || !strings.Contains(m.Header.Get("From"), "mxcert@mx.example.org") || !strings.Contains(m.Header.Get("Subject"), "test") {
		t.Errorf("%v\n%s", err, first)
	}

	// When nothing but the helper's own sendmail delivers: after the pass, whose reload has Exim run its queue.
	if result := s.mxcert("renew"); result.Code != 0 {
		t.Fatalf("renew: exit %d", result.Code)
	}
	const runs = "rm -f /tmp/slow; grep -c 'Start queue run' /var/log/exim4/mainlog || true"
	before := must(t, s.Host, "sh", "-c", runs)
	sent(0, "slow")
	within(t, 60*time.Second, "the slow mail arrives", func() bool {
		return strings.Contains(must(t, s.Host, "sh", "-c", "cat /tmp/slow || true"), "Auto-Submitted: auto-generated")
	})
	if after := must(t, s.Host, "sh", "-c", runs); after != before {
		t.Errorf("%s runs of the queue, then %s: this proves nothing", before, after)
	}

	// Why a helper: in a sandbox like that of the service, the same program fails.
	alone, err := s.Run(t.Context(), "systemd-run", "--pipe", "--wait", "--quiet", "-p", "User=mxcert", "-p", "NoNewPrivileges=yes", "-p", "ProtectSystem=strict", "-p", "RuntimeMaxSec=20", "-p", "CapabilityBoundingSet=",
		"sh", "-c", "printf 'To: root@localhost\\nSubject: from the sandbox\\n\\n' | /usr/sbin/sendmail -t -i")
	s.check(err)
	t.Logf("sendmail in the sandbox: exit %d, %s%s", alone.Code, alone.Stdout, alone.Stderr)
	if alone.Code == 0 && strings.Contains(must(t, s.Host, "sh", "-c", boxes), "from the sandbox") {
		t.Error("sendmail works in the sandbox: the helper is not needed")
	}
	// Who has taken over the service cannot name another program, or another recipient: only channels of the configuration.
	if result := s.mxcert("notify", "test", "nobody"); result.Code != 2 {
		t.Errorf("exit %d", result.Code)
	}
}

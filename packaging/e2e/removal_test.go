package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What README says under "How to remove it", sentence by sentence.
func TestRemoval(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	e := makeEditions(t, deb(t, "1.0"))
	s.bring(e)
	s.dpkg(e.same, "-i")
	s.configured()
	must(t, s.Host, "sh", "-ec", `
		printf '#!/bin/sh\n' | install -D /dev/stdin /etc/mxcert/hooks/deploy.d/10-mine; echo '{}' >/etc/mxcert/conf.d/mine.yaml; echo old >/etc/mxcert/mxcert.yaml.old
		echo key >/var/lib/mxcert-keys/mine.key
		install -D -m 0644 /dev/stdin /etc/systemd/system/mxcert.service.d/mine.conf </dev/null
		systemctl daemon-reload; systemctl start mxcert; systemctl enable --now mxcert-renew.timer`)
	first := s.servedByAuthority()
	within(t, 20*time.Second, "the daemon is idle", func() bool { return strings.HasPrefix(s.property("StatusText"), "1 certificate") })
	server := s.eximFiles()
	apt := func(args string) {
		must(t, s.Host, "sh", "-ec", "cd /root; DEBIAN_FRONTEND=noninteractive apt-get -y -q "+args)
	}

	apt("remove mxcert")
	s.nothingRuns("after the removal")
	const own = "/var/lib/mxcert/lineages/mx /var/lib/mxcert/accounts /etc/mxcert/mxcert.yaml /etc/mxcert/credentials/tsig"
	const kept = "/etc/mxcert/hooks/deploy.d/10-mine /etc/mxcert/conf.d/mine.yaml /var/lib/mxcert-keys/mine.key /etc/systemd/system/mxcert.service.d/mine.conf"
	s.exist(true, own+" "+kept)

	// Another package with the program has taken its place: what is left of the first may be purged.
	apt("install ./full.deb")
	if got := strings.TrimSpace(must(t, s.Host, "systemctl", "is-active", "mxcert.service", "mxcert-renew.timer")); got != "active\nactive" {
		t.Errorf("with mxcert-full the daemon and the timer are %s", got)
	}
	must(t, s.Host, "dpkg", "-P", "mxcert")
	s.exist(true, own+" "+kept+" /etc/mxcert/mxcert.yaml.example")
	if r := s.mxcert("renew"); r.Code != 0 || s.orders() != 1 {
		t.Errorf("renew with mxcert-full: exit code %d, %d orders", r.Code, s.orders())
	}

	apt("purge mxcert-full")
	s.nothingRuns("after the purge")
	s.exist(false, "/var/lib/mxcert /var/lib/mxcert-install /run/mxcert /run/mxcert-helpers /etc/mxcert/credentials /etc/mxcert/mxcert.yaml /etc/mxcert/mxcert.yaml.old /etc/mxcert/mxcert.yaml.example /etc/polkit-1/rules.d/50-mxcert.rules /usr/bin/mxcert")
	s.exist(true, kept)
	must(t, s.Host, "getent", "passwd", "mxcert")
	must(t, s.Host, "getent", "group", "mxcert", "mxcert-keys")
	links := `find /etc/systemd /var/lib/systemd/deb-systemd-helper-* -name '*mxcert*' ! -name mxcert.service.d 2>/dev/null || :`
	if out := must(t, s.Host, "sh", "-c", links); out != "" {
		t.Errorf("after the purge there are still\n%s", out)
	}
	if now := s.eximFiles(); now != server {
		t.Errorf("the mail server's files changed:\n%s\n%s", server, now)
	}
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the purge, want %s", now, first)
	}

	// And as on the first day.
	apt("install ./same.deb")
	const fresh = "mxcert.service enabled inactive\nmxcert-install.socket enabled active\nmxcert-hook.socket enabled active\nmxcert-renew.timer disabled inactive\n"
	if got := s.serviceState(); got != fresh {
		t.Errorf("installed again:\n%s", got)
	}
}

// eximFiles is a sum over what Exim reads.
func (s *story) eximFiles() string {
	s.t.Helper()
	return must(s.t, s.Host, "sh", "-c", "find /etc/exim4 -type f | sort | xargs sha256sum; stat -c '%n %U %G %a' /etc/exim4/exim.*")
}

// nothingRuns finds no process and no unit of mxcert.
func (s *story) nothingRuns(when string) {
	s.t.Helper()
	out := must(s.t, s.Host, "sh", "-c", "pgrep -a mxcert; systemctl list-units --no-legend --plain --state=active 'mxcert*'; :")
	if strings.TrimSpace(out) != "" {
		s.t.Errorf("%s there is\n%s", when, out)
	}
}

// exist looks whether paths exist.
func (s *story) exist(want bool, paths string) {
	s.t.Helper()
	for path := range strings.FieldsSeq(paths) {
		r, err := s.Run(s.t.Context(), "test", "-e", path)
		if s.check(err); (r.Code == 0) != want {
			s.t.Errorf("%s exists: %v, want %v", path, r.Code == 0, want)
		}
	}
}

// The package is exchanged at every moment of a pass: the daemon finishes it, or its successor heals it. No order is lost.
func TestUpgradeDuringAPass(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	e := makeEditions(t, deb(t, "1.0"))
	s.bring(e)
	s.dpkg(e.same, "-i")
	s.configured()
	must(t, s.Host, "systemctl", "start", "mxcert")
	last := s.servedByAuthority()
	next := []string{"changed", "same"}
	open := 0 // orders that are not finished yet; the next pass that wants a certificate finishes them
	for i, milliseconds := range []int{0, 200, 400, 700, 1000, 1400, 1900, 2500} {
		wait := time.Duration(milliseconds) * time.Millisecond
		within(t, 20*time.Second, "the daemon is idle", func() bool { return strings.HasPrefix(s.property("StatusText"), "1 certificate") })
		orders := s.orders()
		out := must(t, s.Host, "sh", "-c", fmt.Sprintf(`mxcert renew --now --new-key --progress plain >/root/renew 2>&1 & sleep %.1f
			dpkg --force-confold -i /root/%s.deb >/root/dpkg 2>&1 || cat /root/dpkg; wait; tail -n 1 /root/renew`, wait.Seconds(), next[i%2]))
		within(t, 60*time.Second, "all is well", func() bool {
			r, err := s.Run(t.Context(), "mxcert", "status", "-q")
			return err == nil && r.Code == 0
		})
		now := s.servedByAuthority()
		if got := s.fileSerial(certificateFile); got != now {
			t.Errorf("%v: the file holds %s, %s is served", wait, got, now)
		}
		open += s.orders() - orders
		if now != last {
			open--
		}
		if open < 0 || open > 1 {
			t.Errorf("%v: %d orders are lost; %s is served after %s\n%s", wait, open, now, last, out)
		}
		t.Logf("%v: %d orders, new certificate: %v; %s", wait, s.orders()-orders, now != last, strings.TrimSpace(out))
		last = now
	}
	s.noTXT()
	s.noSecrets()
}

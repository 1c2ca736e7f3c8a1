package e2e

import (
	"strings"
	"testing"
	"time"
)

// hostFault is something that is wrong with the host when a new key is to be deployed.
type hostFault struct {
	name        string
	harm, mend  string // shell
	code        int
	stage, kind string
	words, hint string
}

// Faults of the host: each has its message, its next step and its exit code; the old certificate is served all the while,
// nothing is left half done, and when the fault is mended, the certificate that was paid for is deployed without an order.
func TestFaultsOfTheHost(t *testing.T) {
	s := begin(t, options{config: strings.Replace(hostConfig, "timeout: 60s", "timeout: 5s", 1)})
	serial := s.report(0, "renew").Certificates[0].Keys[0].Serial
	const filled = `cp -a /etc/exim4 /root/exim4 && mount -t tmpfs -o size=1m tmpfs /etc/exim4 && cp -a /root/exim4/. /etc/exim4/ && dd if=/dev/zero of=/etc/exim4/filler bs=4k status=none 2>/dev/null || test -s /etc/exim4/filler`
	for _, f := range []hostFault{
		{name: "unit masked", harm: "systemctl mask --runtime exim4", mend: "systemctl unmask --runtime exim4", code: 5, stage: "reload", kind: "masked", words: "exim4.service", hint: "unmask"},
		{name: "disk full", harm: filled, mend: "umount /etc/exim4; rm -r /root/exim4", code: 5, stage: "deploy", kind: "disk-full", words: "/etc/exim4", hint: "df"},
		{name: "state full", harm: `cp -a /var/lib/mxcert /root/state && mount -t tmpfs -o size=1m,mode=0700 tmpfs /var/lib/mxcert && cp -a /root/state/. /var/lib/mxcert/ && dd if=/dev/zero of=/var/lib/mxcert/accounts/filler bs=4k status=none 2>/dev/null || test -s /var/lib/mxcert/accounts/filler`,
			mend: "umount /var/lib/mxcert; rm -r /root/state", code: 1, stage: "store", kind: "disk-full", words: "/var/lib/mxcert", hint: "make room"},
		{name: "D-Bus down", harm: "systemctl stop dbus.socket dbus.service; mv /run/systemd/private /run/systemd/private.away; mv /run/dbus/system_bus_socket /run/dbus/away 2>/dev/null; true",
			mend: "mv /run/systemd/private.away /run/systemd/private; mv /run/dbus/away /run/dbus/system_bus_socket 2>/dev/null; systemctl start dbus.socket dbus.service", code: 5, stage: "reload", kind: "bus-away", words: "D-Bus", hint: "dbus"},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := &story{Host: s.Host, t: t}
			must(t, s.Host, "sh", "-c", f.harm)
			healed := false
			defer func() {
				if !healed {
					must(t, s.Host, "sh", "-c", f.mend)
				}
			}()
			orders := s.orders()
			c := s.report(f.code, "renew", "--now", "--new-key").Certificates[0]
			if c.Error == nil || f.stage != "" && c.Error.Stage != f.stage || f.kind != "" && c.Error.Kind != f.kind ||
				!strings.Contains(c.Error.Message, f.words) || !strings.Contains(c.Error.Hint, f.hint) || c.Error.Hint == "" {
				t.Errorf("the error is %+v", c.Error)
			}
			s.served(serial)
			must(t, s.Host, "sh", "-c", f.mend)
			healed = true
			s.served(serial)
			s.noTXT()
			left := must(t, s.Host, "sh", "-c", "find /etc/exim4 -name '.mxcert*'")
			if strings.TrimSpace(left) != "" {
				t.Errorf("left behind: %s", left)
			}
			again := s.report(0, "renew").Certificates[0]
			serial = again.Keys[0].Serial
			s.served(serial)
			if placed := s.orders() - orders; placed > 1 {
				t.Errorf("%d orders", placed)
			}
		})
	}
}

// A reload that never ends is given up, the old files come back, and the server, which still has the old ones open, is proven
// to show them although the reload before keeps systemd busy.
func TestReloadHangs(t *testing.T) {
	t.Parallel()
	s := begin(t, options{config: strings.Replace(hostConfig, "timeout: 60s", "timeout: 5s", 1)})
	old := s.report(0, "renew").Certificates[0].Keys[0].Serial
	must(t, s.Host, "sh", "-c", `mkdir -p /run/systemd/system/exim4.service.d && cd /run/systemd/system/exim4.service.d &&
		printf '[Service]\nExecReload=\nExecReload=/bin/sleep 10000\n' >hang.conf && systemctl daemon-reload`)
	c := s.report(5, "renew", "--now", "--new-key").Certificates[0]
	if c.Error == nil || c.Error.Stage != "reload" || c.Error.Kind != "deadline" || !strings.Contains(c.Error.Message, "the previous certificate is back in service") ||
		!strings.Contains(c.Error.Hint, "journalctl -u exim4.service") {
		t.Errorf("the error is %+v", c.Error)
	}
	s.served(old)
	must(t, s.Host, "sh", "-c", "rm -r /run/systemd/system/exim4.service.d; systemctl daemon-reload; while pkill -x sleep; do sleep 0.3; done; systemctl is-active exim4")
	again := s.report(0, "renew").Certificates[0]
	if again.Keys[0].Serial == old {
		t.Error("the certificate that was paid for is not in service")
	}
	s.served(again.Keys[0].Serial)
}

// Without its polkit rule the service may not reload Exim: the old files come back, doctor names the rule, and when it is
// installed, the certificate is deployed.
func TestPolkitRuleMissing(t *testing.T) {
	s := begin(t, options{service: true, config: strings.Replace(keysConfig, "timeout: 60s", "timeout: 5s", 1)})
	must(t, s.Host, "sh", "-c", `printf 'MAIN_TLS_CERTIFICATE = /var/lib/mxcert-keys/mx.crt\nMAIN_TLS_PRIVATEKEY = /var/lib/mxcert-keys/mx.key\n' >>/etc/exim4/exim4.conf.localmacros && update-exim4.conf && systemctl restart exim4`)
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	old := s.servedByAuthority()
	within(t, 20*time.Second, "the first pass is over", func() bool { return strings.Contains(s.mxcert("history").Stdout, "served") }) // it needs the rule until then
	must(t, s.Host, "sh", "-c", "mv /etc/polkit-1/rules.d/50-mxcert.rules /root/ && systemctl restart polkit")
	c := s.report(5, "renew", "--now", "--new-key").Certificates[0]
	if c.Error == nil || c.Error.Stage != "reload" || c.Error.Kind != "access-denied" || !strings.Contains(c.Error.Hint, "mxcert polkit --install") {
		t.Errorf("the error is %+v", c.Error)
	}
	s.served(old)
	if r := s.mxcert("doctor"); r.Code != 3 || !strings.Contains(r.Stdout, "polkit") {
		t.Errorf("doctor: exit code %d", r.Code)
	}
	must(t, s.Host, "mxcert", "polkit", "--install")
	within(t, 20*time.Second, "polkitd has read the rule", func() bool { return s.mxcert("renew").Code == 0 })
	again := s.report(0, "renew").Certificates[0]
	if again.Keys[0].Serial == old {
		t.Error("the certificate that was paid for is not in service")
	}
	s.served(again.Keys[0].Serial)
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// editions are packages made from one: what differs between them is what an upgrade or an exchange has to get right.
type editions struct{ old, same, changed, full string }

// makeEditions repacks a package, because to build each would take minutes: an older one, a newer one with another example and
// another unit, and one with the name and the relations of mxcert-full.
func makeEditions(t *testing.T, built string) editions {
	t.Helper()
	return editions{
		same: built,
		old:  repack(t, built, "0.9", `sed -i 's/^Version: .*/Version: 0.9/' DEBIAN/control`),
		changed: repack(t, built, "1.1", `sed -i 's/^Version: .*/Version: 1.1/' DEBIAN/control
			sed -i 's/^Description=.*/Description=Changed by an upgrade/' usr/lib/systemd/system/mxcert.service
			echo '# new' >>etc/mxcert/mxcert.yaml.example`),
		full: repack(t, built, "full", `sed -i '/^Provides:\|^Conflicts:\|^Replaces:/d; s/^Package: .*/Package: mxcert-full\nProvides: mxcert\nConflicts: mxcert\nReplaces: mxcert/' DEBIAN/control`),
	}
}

// repack changes a package by a script that runs in its unpacked tree.
func repack(t *testing.T, built, name, script string) string {
	t.Helper()
	result := filepath.Join(t.TempDir(), name+".deb")
	pack := exec.CommandContext(t.Context(), "sh", "-ec", `tree=$(mktemp -d); trap 'rm -rf "$tree"' EXIT
		dpkg-deb --raw-extract "$1" "$tree/p"
		cd "$tree/p"; eval "$3"
		(find . -type f ! -path './DEBIAN/*' -printf '%P\0' | xargs -0 md5sum) >DEBIAN/md5sums
		dpkg-deb --root-owner-group -Znone --build . "$2"`, "sh", built, result, script)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return result
}

// serviceState is what an administrator decides about a unit, and whether it runs.
func (s *story) serviceState() string {
	s.t.Helper()
	var b strings.Builder
	for _, unit := range []string{"mxcert.service", "mxcert-install.socket", "mxcert-hook.socket", "mxcert-renew.timer"} {
		out := must(s.t, s.Host, "sh", "-c", `echo "$1 $(systemctl is-enabled "$1" 2>/dev/null) $(systemctl is-active "$1")"`, "sh", unit)
		b.WriteString(strings.TrimSpace(out) + "\n")
	}
	return b.String()
}

// change is something that is done with packages.
type change struct {
	name, script string
	fails        bool
}

// changes are all ways from one installation to the next. The packages are in /root.
var changes = []change{
	{name: "the same again", script: `dpkg -i same.deb`},
	{name: "apt install --reinstall", script: `apt-get install -y -q --reinstall ./same.deb`},
	{name: "upgrade with a changed unit and a changed example", script: `echo '# mine' >>/etc/mxcert/mxcert.yaml.example; dpkg --force-confold -i changed.deb`},
	{name: "downgrade", script: `dpkg --force-confold -i old.deb`},
	{name: "upgrade by apt, the example deleted", script: `rm -f /etc/mxcert/mxcert.yaml.example*; apt-get install -y -q -o Dpkg::Options::=--force-confold ./same.deb`},
	{name: "remove and install", script: `dpkg -r mxcert; dpkg -i same.deb`},
	{name: "to mxcert-full by apt", script: `apt-get install -y -q ./full.deb`},
	{name: "purge of what mxcert left", script: `dpkg -P mxcert`},
	{name: "back from mxcert-full by apt", script: `apt-get install -y -q ./same.deb`},
	{name: "to mxcert-full by dpkg", script: `dpkg -B -i full.deb`},
	{name: "back from mxcert-full by dpkg", script: `dpkg -B -i same.deb`},
	{name: "an upgrade that fails", fails: true, script: `dpkg-divert --local --rename --add /usr/bin/systemd-sysusers; printf '#!/bin/sh\nexit 1\n' >/usr/bin/systemd-sysusers; chmod +x /usr/bin/systemd-sysusers; dpkg --force-confold -i changed.deb`},
	{name: "and is retried", script: `rm /usr/bin/systemd-sysusers; dpkg-divert --local --rename --remove /usr/bin/systemd-sysusers; dpkg --configure -a`},
	{name: "with a policy that starts nothing", script: `printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; dpkg --force-confold -i same.deb; rm /usr/sbin/policy-rc.d`},
	{name: "in a container build, without systemd", script: `unshare --mount sh -ec 'mount -t tmpfs tmpfs /run; dpkg -i old.deb; dpkg -r mxcert; dpkg -i same.deb'`},
}

// decisions are what an administrator may have decided about the service.
var decisions = []struct{ name, script string }{
	{"the daemon runs", `systemctl enable --now mxcert.service mxcert-install.socket mxcert-hook.socket`},
	{"the daemon is stopped", `systemctl stop mxcert.service`},
	{"the daemon is disabled", `systemctl disable --now mxcert.service; systemctl enable mxcert-install.socket mxcert-hook.socket`},
	{"the timer instead of the daemon", `systemctl disable --now mxcert.service; systemctl stop mxcert-install.socket mxcert-hook.socket; systemctl enable --now mxcert-renew.timer`},
	{"everything is masked", `systemctl disable --now mxcert-renew.timer; systemctl mask --now mxcert.service mxcert-install.socket mxcert-hook.socket mxcert-renew.timer`},
	{"the daemon is disabled and runs", `systemctl unmask mxcert.service mxcert-install.socket mxcert-hook.socket mxcert-renew.timer; systemctl disable mxcert.service; systemctl start mxcert.service`},
}

// Whatever is done with packages, units run, are enabled and are masked as they were, the certificate stays in service and nothing
// is ordered; and a daemon that runs is that of the package.
func TestPackagesKeepDecisions(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	e := makeEditions(t, deb(t, "1.0"))
	s.bring(e)
	s.dpkg(e.same, "-i")
	s.configured()
	const dropIn = "/etc/systemd/system/mxcert.service.d/mine.conf"
	s.check(s.Put(dropIn, []byte("[Service]\nEnvironment=MINE=1\n"), 0o644))
	must(t, s.Host, "sh", "-c", "systemctl daemon-reload && systemctl start mxcert")
	first := s.servedByAuthority()
	began := time.Now()
	for _, d := range decisions {
		t.Run(d.name, func(t *testing.T) {
			part := s.in(t)
			must(t, s.Host, "sh", "-ec", d.script)
			for _, c := range changes {
				part.keepsDecision(d.name, c)
			}
		})
	}
	figure(t, "all changes of packages: %.0f s", time.Since(began).Seconds())
	if now := s.servedByAuthority(); now != first || s.orders() != 1 {
		t.Errorf("%s is served, want %s; %d orders", now, first, s.orders())
	}
	if text, err := s.Get(dropIn); err != nil || !strings.Contains(string(text), "MINE=1") || !strings.Contains(s.property("Environment"), "MINE=1") {
		t.Errorf("the administrator's drop-in: %q %v", text, err)
	}
}

// keepsDecision makes one change, and compares the units before and after it.
func (s *story) keepsDecision(decision string, c change) {
	s.t.Helper()
	if strings.Contains(s.serviceState(), "mxcert.service") && s.property("ActiveState") == "active" {
		within(s.t, 20*time.Second, "the daemon is idle", func() bool { return strings.HasPrefix(s.property("StatusText"), "1 certificate") })
	}
	before, pid := s.serviceState(), s.property("MainPID")
	r, err := s.Run(s.t.Context(), "sh", "-ec", "cd /root; export DEBIAN_FRONTEND=noninteractive; "+c.script)
	s.check(err)
	if (r.Code != 0) != c.fails {
		s.t.Fatalf("%s, %s: exit status %d\n%s%s", decision, c.name, r.Code, r.Stdout, r.Stderr)
	}
	if after := s.serviceState(); after != before {
		s.t.Errorf("%s, %s: before\n%safter\n%s%s%s", decision, c.name, before, after, r.Stdout, r.Stderr)
	}
	restarts := !c.fails && !strings.Contains(c.script, "policy-rc.d") && !strings.Contains(c.script, "unshare") && !strings.Contains(c.script, "dpkg -P")
	if now := s.property("MainPID"); pid != "0" && (now != pid) != restarts {
		s.t.Errorf("%s, %s: the daemon was process %s and is %s", decision, c.name, pid, now)
	}
}

// configured writes the configuration of this world, and lets the service reload Exim.
func (s *story) configured() {
	s.t.Helper()
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(hostConfig), 0o644))
	s.check(s.Put("/etc/mxcert/credentials/tsig", []byte(s.TSIGSecret+"\n"), 0o640))
	must(s.t, s.Host, "chgrp", "mxcert", "/etc/mxcert/credentials/tsig")
	must(s.t, s.Host, "mxcert", "polkit", "--install")
}

// bring puts the editions into the host's /root.
func (s *story) bring(e editions) {
	s.t.Helper()
	for name, file := range map[string]string{"old": e.old, "same": e.same, "changed": e.changed, "full": e.full} {
		text, err := os.ReadFile(file)
		s.check(err)
		s.check(s.Put("/root/"+name+".deb", text, 0o644))
	}
}

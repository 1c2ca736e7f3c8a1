package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// keysConfig has the mail server read from a directory of the service's own.
var keysConfig = strings.Replace(hostConfig,
	`      - exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}`,
	`      - exim: {certificate: /var/lib/mxcert-keys/mx.crt, private_key: /var/lib/mxcert-keys/mx.key, unit: exim4.service}`, 1)

// The sandbox of the service, as systemd itself judges it, and what bounds the programs of root.
func TestSandbox(t *testing.T) {
	s := begin(t, options{service: true})
	for unit, most := range map[string]float64{"mxcert.service": 1.2, "mxcert-renew.service": 1.2, "mxcert-install@.service": 4} {
		name := strings.Replace(unit, "@", "@1-4711-999", 1) // as systemd names the instance of a connection
		out := must(t, s.Host, "systemd-analyze", "security", "--no-pager", name)
		found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("systemd-analyze says nothing of %s:\n%s", name, out)
		}
		level, err := strconv.ParseFloat(found[1], 64)
		s.check(err)
		figure(t, "systemd-analyze security %s: %s", unit, found[1])
		if level > most {
			t.Errorf("%s has %s, more than %.1f:\n%s", unit, found[1], most, out)
		}
	}
	for _, kind := range []string{"install", "hook"} {
		if got := strings.TrimSpace(must(t, s.Host, "systemctl", "show", "--property=Slice", "mxcert-"+kind+"@1-4711-999.service")); got != "Slice=system-mxcert.slice" {
			t.Errorf("mxcert-%s@.service has %s", kind, got)
		}
	}
	bounds := must(t, s.Host, "systemctl", "show", "--property=MemoryMax", "--property=TasksMax", "system-mxcert.slice")
	if !strings.Contains(bounds, "MemoryMax=1073741824\n") || !strings.Contains(bounds, "TasksMax=1024\n") {
		t.Errorf("the bounds of all helpers together: %s", bounds)
	}
}

// The sockets of the two programs of root: who may reach them, whom they obey, and what an operator reads when they are not
// there. A one-shot of the service's user works through them as the daemon does.
func TestHelperSockets(t *testing.T) {
	s := begin(t, options{service: true})
	const helpers = "/run/mxcert-helpers"
	must(t, s.Host, "install", "-d", "-m", "0700", "-o", "mxcert", "-g", "mxcert", "/var/lib/mxcert") // as systemd does at the service's first start
	renew := func() mailhost.Result { return s.mxcert("renew") }                                      // root's command becomes the user mxcert
	r := renew()
	if r.Code == 0 || !strings.Contains(r.Stderr, "cannot be reached") || !strings.Contains(unfolded(r.Stdout), "systemctl start mxcert-install.socket") {
		t.Errorf("without sockets: exit code %d\n%s%s", r.Code, r.Stderr, r.Stdout)
	}
	must(t, s.Host, "systemctl", "start", "mxcert-install.socket", "mxcert-hook.socket")
	for path, want := range map[string]string{helpers: "root:root 755", helpers + "/install.sock": "root:mxcert 660", helpers + "/hook.sock": "root:mxcert 660"} {
		if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if r := renew(); r.Code != 0 {
		t.Errorf("the one-shot of the service's user: exit code %d\n%s", r.Code, r.Stderr)
	}
	first := s.servedByAuthority()
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", keyFile)); got != "root:Debian-exim 640" {
		t.Errorf("the key is %s", got)
	}

	// Another user cannot connect, and is not obeyed if the group lets him.
	ask := func(user, group, kind, order string) mailhost.Result {
		return s.as(user, group, "python3", "-c", `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
print(s.makefile().readline())`, helpers+"/"+kind+".sock", order)
	}
	check, event := `{"verb":"check","name":"mx"}`, `{"event":"pre","name":"mx"}`
	for kind, order := range map[string]string{"install": check, "hook": event} {
		if r := ask("nobody", "nogroup", kind, order); r.Code == 0 || !strings.Contains(r.Stderr, "PermissionError") {
			t.Errorf("another user reaches %s: %+v", kind, r)
		}
		if r := ask("nobody", "mxcert", kind, order); !strings.Contains(r.Stdout, `"kind":"permission"`) || !strings.Contains(r.Stdout, "only root and the user mxcert") {
			t.Errorf("another user of the group is obeyed by %s: %+v", kind, r)
		}
		if r := ask("mxcert", "mxcert", kind, order); r.Code != 0 || strings.Contains(r.Stdout, `"error"`) {
			t.Errorf("the service is not obeyed by %s: %+v", kind, r)
		}
	}
	if r := ask("mxcert", "mxcert", "install", "rubbish"); strings.TrimSpace(r.Stdout) != "" {
		t.Errorf("rubbish is answered by %q", r.Stdout)
	}

	// Those that failed are not kept.
	within(t, 10*time.Second, "no helper is left", func() bool {
		return strings.TrimSpace(must(t, s.Host, "sh", "-c", "systemctl list-units --all 'mxcert-*@*' --no-legend --plain | wc -l")) == "0"
	})

	// A plan that the configuration may not bound is refused, and the service says why.
	must(t, s.Host, "chmod", "0666", "/etc/mxcert/mxcert.yaml")
	if r := s.as("mxcert", "mxcert", "mxcert", "renew", "--now"); r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, "users other than root can write") {
		t.Errorf("with a configuration that others may write: exit code %d\n%s", r.Code, r.Stderr)
	}
	must(t, s.Host, "chmod", "0644", "/etc/mxcert/mxcert.yaml")

	// The daemon brings the sockets up by itself, and a socket that is stopped goes away.
	must(t, s.Host, "systemctl", "stop", "mxcert-install.socket", "mxcert-hook.socket")
	if r, err := s.Run(t.Context(), "test", "-e", helpers+"/install.sock"); err != nil || r.Code == 0 {
		t.Error("the socket is left")
	}
	must(t, s.Host, "systemctl", "enable", "--now", "mxcert.service")
	for _, unit := range []string{"mxcert-install.socket", "mxcert-hook.socket"} {
		if got := strings.TrimSpace(must(t, s.Host, "sh", "-c", "echo $(systemctl is-active "+unit+") $(systemctl is-enabled "+unit+")")); got != "active enabled" {
			t.Errorf("%s is %s", unit, got)
		}
	}
	if r := s.mxcert("renew", "--now", "--new-key"); r.Code != 0 || s.servedByAuthority() == first {
		t.Errorf("renew by the daemon: exit code %d\n%s", r.Code, r.Stderr)
	}

	// Without a daemon, root's commands do the work as the user mxcert, through the same helpers.
	must(t, s.Host, "systemctl", "stop", "mxcert.service")
	for _, args := range [][]string{{"doctor"}, {"status"}, {"verify"}, {"renew", "--dry-run"}, {"renew", "--now"}, {"deploy", "mx"}, {"rollback", "mx"}, {"account", "show"}, {"history"}} {
		if r := s.mxcert(args...); r.Code != 0 || strings.Contains(r.Stdout+r.Stderr, "permission denied") {
			t.Errorf("%v by root: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	if out := must(t, s.Host, "find", "/var/lib/mxcert", "!", "-user", "mxcert"); strings.TrimSpace(out) != "" {
		t.Errorf("not of the service's user: %s", out)
	}
}

// as runs a program as another user, with no other group.
func (s *story) as(user, group string, argv ...string) mailhost.Result {
	s.t.Helper()
	r, err := s.Run(s.t.Context(), append([]string{"setpriv", "--reuid=" + user, "--regid=" + group, "--clear-groups", "--"}, argv...)...)
	s.check(err)
	return r
}

// As README has it: root makes the first certificate, in the service's directory, and then the service takes over.
func TestOwnDirectoryAfterRoot(t *testing.T) {
	s := begin(t, options{service: true, config: keysConfig})
	must(t, s.Host, "sh", "-c", `printf 'MAIN_TLS_CERTIFICATE = /var/lib/mxcert-keys/mx.crt\nMAIN_TLS_PRIVATEKEY = /var/lib/mxcert-keys/mx.key\n' >>/etc/exim4/exim4.conf.localmacros && update-exim4.conf && systemctl restart exim4`)
	s.report(0, "renew")
	first := s.servedByAuthority()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	for _, args := range [][]string{{"renew"}, {"renew", "--now"}, {"renew", "--now", "--new-key"}, {"rollback", "mx"}} {
		if r := s.mxcert(args...); r.Code != 0 {
			t.Errorf("%v by the service: exit code %d\n%s", args, r.Code, r.Stderr)
		}
	}
	if s.servedByAuthority() == first {
		t.Error("the first certificate is served")
	}
	must(t, s.Host, "systemctl", "stop", "mxcert.service")
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Errorf("by root again: exit code %d\n%s", r.Code, r.Stderr)
	}
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", "/var/lib/mxcert-keys/mx.key")); got != "mxcert:mxcert-keys 640" {
		t.Errorf("the key is %s", got)
	}
}

// Keys at the service's own directory: neither root nor a helper is needed, and Exim reads them by its group.
func TestOwnDirectory(t *testing.T) {
	s := begin(t, options{service: true, config: keysConfig})
	must(t, s.Host, "sh", "-c", `printf 'MAIN_TLS_CERTIFICATE = /var/lib/mxcert-keys/mx.crt\nMAIN_TLS_PRIVATEKEY = /var/lib/mxcert-keys/mx.key\n' >>/etc/exim4/exim4.conf.localmacros && update-exim4.conf && systemctl restart exim4`)
	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	s.servedByAuthority()
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", "/var/lib/mxcert-keys/mx.key")); got != "mxcert:mxcert-keys 640" {
		t.Errorf("the key is %s", got)
	}
	if out := must(t, s.Host, "sh", "-c", "journalctl -u 'mxcert-install@*' --no-pager -q | wc -l"); strings.TrimSpace(out) != "0" {
		t.Error("the helper was started for files that the service can write")
	}
	s.isUnprivileged()
	// A new key is written over the old one with the same group, though the sandbox lets nobody change groups.
	first := s.servedByAuthority()
	if r := s.mxcert("renew", "--now", "--new-key"); r.Code != 0 || s.servedByAuthority() == first {
		t.Errorf("renew with a new key: exit code %d\n%s", r.Code, r.Stderr)
	}
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", "/var/lib/mxcert-keys/mx.key")); got != "mxcert:mxcert-keys 640" {
		t.Errorf("the new key is %s", got)
	}
	figure(t, "own directory: %.2f s from start to proof", time.Since(began).Seconds())
}

// Fixed paths of root: the helper writes them, with owner and mode of the configuration; the service stays what it is.
// Hooks run outside of the sandbox. Commands of root ask the service.
func TestRootsPaths(t *testing.T) {
	s := begin(t, options{service: true})
	s.check(s.Put("/etc/mxcert/hooks/deploy.d/10-note", []byte("#!/bin/sh\nid -u >/root/hook-ran; echo $MXCERT_NAME >>/root/hook-ran; env >>/root/hook-ran\n"), 0o755))
	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	first := s.servedByAuthority()
	figure(t, "root's paths, by the helper: %.2f s from start to proof", time.Since(began).Seconds())
	if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", keyFile)); got != "root:Debian-exim 640" {
		t.Errorf("the key is %s", got)
	}
	s.isUnprivileged()
	within(t, 20*time.Second, "the hook has run as root", func() bool {
		r, err := s.Run(t.Context(), "cat", "/root/hook-ran")
		return err == nil && r.Code == 0 && strings.HasPrefix(r.Stdout, "0\nmx\n") && strings.Contains(r.Stdout, "RENEWED_LINEAGE=/run/mxcert-hook-")
	})
	if r := s.mxcert("renew", "--now"); r.Code != 0 || !strings.Contains(r.Stderr, "issued") {
		t.Errorf("renew --now by root: exit code %d\n%s", r.Code, r.Stderr)
	}
	if second := s.servedByAuthority(); second == first {
		t.Error("the same certificate is served")
	}
	// A rollback is the same transaction; a broken Exim configuration takes it back.
	if r := s.mxcert("rollback", "mx"); r.Code != 0 {
		t.Errorf("rollback: exit code %d", r.Code)
	}
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the rollback, want %s", now, first)
	}
	must(t, s.Host, "sh", "-c", "echo 'rubbish here' >>/etc/exim4/exim4.conf.template && rm -f /var/lib/exim4/config.autogenerated")
	r := s.mxcert("renew", "--now", "--new-key")
	if r.Code != 5 || !strings.Contains(r.Stderr, "exim4.service") {
		t.Errorf("with a broken Exim: exit code %d\n%s", r.Code, r.Stderr)
	}
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the failure, want %s", now, first)
	}
	if out := must(t, s.Host, "sh", "-c", "systemctl list-units --all 'mxcert-*@*' --no-legend --plain | wc -l"); strings.TrimSpace(out) != "0" {
		t.Errorf("%s helpers are left", strings.TrimSpace(out))
	}
	s.noSecrets()
	// Files of other owners stay theirs: nothing in the state belongs to root.
	if out := must(t, s.Host, "find", "/var/lib/mxcert", "!", "-user", "mxcert"); strings.TrimSpace(out) != "" {
		t.Errorf("not of the service's user: %s", out)
	}
}

// mixedConfig has a place in a directory of root and two in a directory of the service.
var mixedConfig = strings.Replace(hostConfig, "    verify:", `      - files: {certificate: /var/lib/mxcert-keys/mx.crt, private_key: /var/lib/mxcert-keys/mx.key, reload: never}
      - files: {directory: /var/lib/mxcert-keys/live, reload: never}
    verify:`, 1)

// One certificate for /etc/exim4, which the helper writes, and for /var/lib/mxcert-keys, which the service writes: both change, or neither.
func TestMixedPlaces(t *testing.T) {
	s := begin(t, options{service: true, config: strings.Replace(mixedConfig, "timeout: 60s", "timeout: 10s", 1)})
	must(t, s.Host, "rm", "-f", certificateFile, keyFile)
	both := func(serial string) {
		t.Helper()
		for _, path := range []string{certificateFile, "/var/lib/mxcert-keys/mx.crt", "/var/lib/mxcert-keys/live/fullchain.pem"} {
			if got := s.fileSerial(path); got != serial {
				t.Errorf("%s holds %s, want %s", path, got, serial)
			}
		}
		for path, want := range map[string]string{keyFile: "root:Debian-exim 640", "/var/lib/mxcert-keys/mx.key": "mxcert:mxcert-keys 640",
			"/var/lib/mxcert-keys/live/privkey.pem": "mxcert:mxcert-keys 640", "/var/lib/mxcert-keys/live.generations": "mxcert:mxcert-keys 750"} {
			if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", path)); got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
		if now := s.servedByAuthority(); now != serial {
			t.Errorf("%s is served, want %s", now, serial)
		}
		if out := must(t, s.Host, "find", "/etc/exim4", "/var/lib/mxcert-keys", "-name", ".mxcert*"); strings.TrimSpace(out) != "" {
			t.Errorf("left: %s", out)
		}
	}
	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	first := s.servedByAuthority()
	figure(t, "places of root and of the service: %.2f s from start to proof", time.Since(began).Seconds())
	both(first)
	s.isUnprivileged()
	for _, command := range []string{"doctor", "status", "renew"} {
		if r := s.mxcert(command); r.Code != 0 {
			t.Errorf("%s: exit code %d", command, r.Code)
		}
	}
	if r := s.mxcert("renew", "--now", "--new-key"); r.Code != 0 {
		t.Errorf("renew with a new key: exit code %d", r.Code)
	}
	second := s.servedByAuthority()
	if both(second); second == first {
		t.Error("the same certificate is served")
	}
	if r := s.mxcert("rollback", "mx"); r.Code != 0 {
		t.Errorf("rollback: exit code %d", r.Code)
	}
	both(first)
	if r := s.mxcert("renew", "--dry-run"); r.Code != 0 || strings.Contains(r.Stdout, "write ") {
		t.Errorf("a dry run finds something to do: exit code %d\n%s", r.Code, r.Stdout)
	}

	// Somebody changes a file of each part: the daemon restores both.
	must(t, s.Host, "sh", "-c", "echo rubbish >"+keyFile+"; echo rubbish >/var/lib/mxcert-keys/mx.crt")
	within(t, 90*time.Second, "both files are restored", func() bool {
		r, err := s.Run(t.Context(), "grep", "-l", "rubbish", keyFile, "/var/lib/mxcert-keys/mx.crt")
		return err == nil && r.Code == 1
	})
	both(first)

	// Exim does not reload, so both parts go back. Then its configuration is broken: nothing is written.
	s.reloadsBy("exim4.service", "/bin/false")
	if r := s.mxcert("renew", "--now", "--new-key"); r.Code != 5 || !strings.Contains(r.Stderr, "previous certificate is back") {
		t.Errorf("with a reload that fails: exit code %d", r.Code)
	}
	both(first)
	must(t, s.Host, "rm", "-r", "/etc/systemd/system/exim4.service.d")
	must(t, s.Host, "systemctl", "daemon-reload")
	template, err := s.Get("/etc/exim4/exim4.conf.template")
	s.check(err)
	must(t, s.Host, "sh", "-c", "echo 'rubbish here' >>/etc/exim4/exim4.conf.template && rm -f /var/lib/exim4/config.autogenerated")
	if r := s.mxcert("renew", "--now", "--new-key"); r.Code != 5 || !strings.Contains(r.Stderr, "exim4.service") {
		t.Errorf("with a broken Exim: exit code %d", r.Code)
	}
	both(first)
	s.check(s.Put("/etc/exim4/exim4.conf.template", template, 0o644))
	must(t, s.Host, "update-exim4.conf")
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Errorf("after the repair: exit code %d", r.Code)
	}
	last := s.servedByAuthority()
	if both(last); last == first {
		t.Error("what was issued is not in service")
	}
	s.noSecrets()
	s.leadsRootNowhere(last)
}

// leadsRootNowhere does what somebody can do who has taken over the service: a configured directory in the service's own is exchanged for a
// link to a directory of root. The helper writes nothing there.
func (s *story) leadsRootNowhere(serial string) {
	s.t.Helper()
	must(s.t, s.Host, "sh", "-c", "install -d /srv/other && echo kept >/srv/other/mx.key && runuser -u mxcert -- ln -s /srv/other /var/lib/mxcert-keys/sub")
	config := strings.ReplaceAll(mixedConfig, "/var/lib/mxcert-keys/mx.", "/var/lib/mxcert-keys/sub/mx.")
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(config), 0o644))
	must(s.t, s.Host, "systemctl", "reload", "mxcert.service")
	within(s.t, 20*time.Second, "the service may not write there, and says why", func() bool {
		r := s.mxcert("deploy", "mx")
		return r.Code == 5 && strings.Contains(r.Stderr, "leaves it to that user")
	})
	r := s.as("mxcert", "mxcert", "python3", "-c", `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/mxcert-helpers/install.sock")
s.sendall(b'{"verb":"check","name":"mx"}\n')
print(s.makefile().readline())`)
	if !strings.Contains(r.Stdout, `"left":["/var/lib/mxcert-keys/sub/mx.crt","/var/lib/mxcert-keys/sub/mx.key","/var/lib/mxcert-keys/live"]`) {
		s.t.Errorf("the helper says %+v", r)
	}
	if out := must(s.t, s.Host, "sh", "-c", "ls -A /srv/other; cat /srv/other/mx.key"); out != "mx.key\nkept\n" {
		s.t.Errorf("root was led to other files: %s", out)
	}
	if now := s.servedByAuthority(); now != serial {
		s.t.Errorf("%s is served, want %s", now, serial)
	}
}

// The timer's one pass does the same work with the same rights. Beside a daemon it asks the daemon, which goes on and keeps its socket.
func TestTimer(t *testing.T) {
	s := begin(t, options{service: true})
	must(t, s.Host, "systemctl", "start", "mxcert-renew.service")
	s.servedByAuthority()
	must(t, s.Host, "systemctl", "enable", "--now", "mxcert-renew.timer")

	must(t, s.Host, "systemctl", "start", "mxcert.service")
	pid := s.property("MainPID")
	for range 2 {
		must(t, s.Host, "systemctl", "start", "mxcert-renew.service") // waits for the end of the pass, and fails as it does
		if now, state := s.property("MainPID"), s.property("ActiveState"); now != pid || state != "active" {
			t.Errorf("after the timer's pass the daemon is %s, process %s was %s", state, now, pid)
		}
		must(t, s.Host, "test", "-S", "/run/mxcert/control.sock")
	}
	if r := s.mxcert("renew", "--now"); r.Code != 0 {
		t.Errorf("renew --now by root, after the timer's pass: exit code %d\n%s", r.Code, r.Stderr)
	}
}

func (s *story) servedByAuthority() (serial string) {
	s.t.Helper()
	within(s.t, 40*time.Second, "a certificate of the authority is served", func() bool {
		served, err := s.ServedBy(s.t.Context(), "127.0.0.1:25", "mx.example.org", "")
		if err != nil || len(served.Chain) < 2 {
			return false
		}
		serial = served.Serial
		return true
	})
	return serial
}

// isUnprivileged looks at the running daemon as the kernel sees it.
func (s *story) isUnprivileged() {
	s.t.Helper()
	out := must(s.t, s.Host, "sh", "-c", `grep -E '^(Uid|CapPrm|CapEff|CapBnd|NoNewPrivs)' /proc/$(systemctl show -P MainPID mxcert.service)/status`)
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case name == "Uid" && fields[0] == "0", strings.HasPrefix(name, "Cap") && strings.Trim(fields[0], "0") != "", name == "NoNewPrivs" && fields[0] != "1":
			s.t.Errorf("the service is not unprivileged:\n%s", out)
		}
	}
}

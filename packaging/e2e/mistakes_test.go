package e2e

import (
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The mistakes that a user will make: each gives one clear message with a next step, its exit code, and harms nothing.
func TestMistakesOfUsers(t *testing.T) {
	hostConfig := strings.Replace(hostConfig, "timeout: 60s", "timeout: 5s", 1)
	s := begin(t, options{config: hostConfig})
	serial := s.report(0, "renew").Certificates[0].Keys[0].Serial
	pid, err := s.EximPID()
	s.check(err)

	t.Run("no permission", func(t *testing.T) {
		s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(hostConfig), 0o644))
		result, err := s.Run(t.Context(), "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "mxcert", "renew")
		s.check(err)
		if result.Code != 77 || !strings.Contains(result.Stderr, "permission denied") || !strings.Contains(result.Stderr, "as root") {
			t.Errorf("exit code %d:\n%s%s", result.Code, result.Stderr, result.Stdout)
		}
	})
	// What follows is one change of the configuration each, which a renewal must survive.
	for _, tt := range []struct {
		name, old, replacement string
		code                   int
		stage, kind            string
		words, hint            string
	}{
		// First, because the others leave a certificate behind that this one would put in service.
		{"name not in the zone", "host7.example.org", "host7.example.net", 1, "dns", "", "host7.example.net", ""},
		{"unit name wrong", "exim4.service", "exim.service", 5, "reload", "no-such-unit", "exim.service", ""},
		{"unit cannot reload", "exim4.service", "systemd-journald.service", 5, "reload", "not-reloadable", "systemd-journald.service", ""},
		{"port closed", `"[::1]:25"`, `"127.0.0.1:2525"`, 5, "verify", "connection-refused", "127.0.0.1:2525", "verify.endpoints"},
		{"not a mail server", `"[::1]:25"`, `"127.0.0.1:53"`, 5, "verify", "", "127.0.0.1:53", ""},
		{"group missing", "group: Debian-exim", "group: nosuch", 5, "deploy", "", "nosuch", "group"},
		{"directory missing", "/etc/exim4/exim.crt", "/etc/exim/exim.crt", 5, "deploy", "missing-directory", "/etc/exim", "install -d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(strings.Replace(hostConfig, tt.old, tt.replacement, 1)), 0o644))
			c := s.report(tt.code, "renew", "--now").Certificates[0]
			if c.Error == nil || c.Error.Stage != tt.stage || tt.kind != "" && c.Error.Kind != tt.kind ||
				!strings.Contains(c.Error.Message, tt.words) || !strings.Contains(c.Error.Hint, tt.hint) || c.Error.Hint == "" {
				t.Errorf("the error is %+v", c.Error)
			}
			s.served(serial)
		})
	}
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(hostConfig), 0o644))
	t.Run("key file unwritable", func(t *testing.T) {
		must(t, s.Host, "sh", "-c", "mount --bind /etc/exim4 /etc/exim4 && mount -o remount,ro,bind /etc/exim4")
		defer must(t, s.Host, "umount", "/etc/exim4")
		c := s.report(5, "renew", "--new-key").Certificates[0]
		if c.Error == nil || c.Error.Stage != "deploy" || c.Error.Kind != "read-only" || !strings.Contains(c.Error.Message, "/etc/exim4") || !strings.Contains(c.Error.Hint, "findmnt") {
			t.Errorf("the error is %+v", c.Error)
		}
		s.served(serial)
	})
	t.Run("everything mended", func(t *testing.T) {
		c := s.report(0, "renew").Certificates[0]
		if c.Keys[0].Serial == serial {
			t.Error("the certificate that was paid for is not in service")
		}
		serial = c.Keys[0].Serial
		s.served(serial)
	})
	t.Run("tabs in YAML", func(t *testing.T) {
		s.check(s.Put("/root/tabs.yaml", []byte(strings.Replace(hostConfig, "  provider", "\tprovider", 1)), 0o644))
		for command, code := range map[string]int{"check": 3, "renew": 78, "run": 78} {
			result := s.mxcert("-c", "/root/tabs.yaml", command)
			if result.Code != code || !strings.Contains(result.Stderr, "tab") || !strings.Contains(result.Stderr, "tabs.yaml:8:") {
				t.Errorf("%s: exit code %d", command, result.Code)
			}
		}
	})
	if now, err := s.EximPID(); err != nil || now != pid {
		t.Errorf("Exim was process %d and is %d (%v)", pid, now, err)
	}
}

// Exim is not running: the files are put in place for its next start, which is said, and mxcert does not start it.
func TestEximStopped(t *testing.T) {
	s := begin(t, options{})
	must(t, s.Host, "systemctl", "stop", "exim4")
	c := s.report(5, "renew").Certificates[0]
	if c.Error == nil || !strings.Contains(c.Error.Message, "exim4.service") || c.Stage != "deployed" {
		t.Errorf("stage %s, error %+v", c.Stage, c.Error)
	}
	if state, err := s.Unit(t.Context(), "exim4.service", "ActiveState"); err != nil || state["ActiveState"] != "inactive" {
		t.Errorf("Exim is %v (%v)", state, err)
	}
	must(t, s.Host, "systemctl", "start", "exim4")
	s.check(s.AwaitPort(t.Context(), "[::1]:25"))
	if again := s.report(0, "renew").Certificates[0]; again.Keys[0].Serial != c.Keys[0].Serial {
		t.Errorf("%+v", again)
	}
	s.served(c.Keys[0].Serial)
}

// Exim was killed. On Debian 12, systemd does not notice, because the unit remains active: the handshakes tell, and the old files come back.
// On Debian 13 the unit has failed, and what is in the files when it starts again is the new certificate.
func TestEximKilled(t *testing.T) {
	t.Parallel()
	s := begin(t, options{config: strings.Replace(hostConfig, "timeout: 60s", "timeout: 5s", 1)})
	old := s.report(0, "renew").Certificates[0].Keys[0].Serial
	must(t, s.Host, "systemctl", "kill", "--signal=KILL", "exim4")
	c := s.report(5, "renew", "--now").Certificates[0]
	if c.Error == nil || c.Error.Hint == "" || c.Error.Stage != "reload" && c.Error.Stage != "verify" {
		t.Errorf("the error is %+v", c.Error)
	}
	next := old
	if mailhost.DefaultRelease() != mailhost.Debian12 {
		next = c.Keys[0].Serial
	}
	if got := s.fileSerial(certificateFile); got != next {
		t.Errorf("the file holds %s, want %s", got, next)
	}
	must(t, s.Host, "systemctl", "restart", "exim4")
	s.check(s.AwaitPort(t.Context(), "[::1]:25"))
	s.served(next)
	if again := s.report(0, "renew").Certificates[0]; again.Keys[0].Serial != c.Keys[0].Serial {
		t.Errorf("%+v", again)
	}
	s.served(c.Keys[0].Serial)
}

// An Exim that hangs says "reloaded" to systemd: only the handshake tells the truth.
func TestEximHangs(t *testing.T) {
	t.Parallel()
	s := begin(t, options{config: strings.Replace(hostConfig, "timeout: 60s", "timeout: 5s", 1)})
	old := s.report(0, "renew").Certificates[0].Keys[0].Serial
	must(t, s.Host, "sh", "-c", "kill -STOP $(cat /run/exim4/exim.pid)")
	began := time.Now()
	c := s.report(5, "renew", "--now").Certificates[0]
	if c.Error == nil || c.Error.Stage != "verify" {
		t.Errorf("the error is %+v", c.Error)
	}
	figure(t, "given up and taken back after %.0f s", time.Since(began).Seconds())
	if got := s.fileSerial(certificateFile); got != old {
		t.Errorf("the file holds %s, want the old %s", got, old)
	}
	must(t, s.Host, "sh", "-c", "kill -CONT $(cat /run/exim4/exim.pid)")
	if again := s.report(0, "renew").Certificates[0]; again.Keys[0].Serial != c.Keys[0].Serial {
		t.Errorf("%+v", again)
	}
	s.served(c.Keys[0].Serial)
}

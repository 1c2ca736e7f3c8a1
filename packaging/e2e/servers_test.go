package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// everywhere looks with openssl at all ports of the servers.
func (s *story) everywhere(serial string, servers ...string) {
	s.t.Helper()
	for _, server := range servers {
		s.servedAt(serial, mailhost.RootsFile, endpoints(server)...)
	}
}

// Story 9: Postfix and Dovecot get their certificates, in every layout that they support, with the same key and with a new one,
// and a run that has nothing to do leaves them alone.
func TestPostfixAndDovecot(t *testing.T) {
	for _, l := range layouts() {
		if l.server == "exim" {
			continue
		}
		t.Run(l.server+"/"+l.name, func(t *testing.T) {
			t.Parallel()
			s := beginWith(t, "always", l)
			first := s.report(0, "renew").Certificates[0]
			if first.Stage != "served" || len(first.Endpoints) != len(endpoints(l.server)) {
				t.Fatalf("the report says %+v", first)
			}
			s.everywhere(first.Keys[0].Serial, l.server)

			same := s.report(0, "renew", "--now").Certificates[0]
			s.everywhere(same.Keys[0].Serial, l.server)
			if same.Keys[0].Serial == first.Keys[0].Serial || same.Keys[0].SPKI != first.Keys[0].SPKI {
				t.Errorf("wanted a new certificate of the old key: %+v, then %+v", first.Keys, same.Keys)
			}
			other := s.report(0, "renew", "--now", "--new-key").Certificates[0]
			s.everywhere(other.Keys[0].Serial, l.server)
			if other.Keys[0].SPKI == same.Keys[0].SPKI {
				t.Errorf("wanted a new key: %+v, then %+v", same.Keys, other.Keys)
			}
			before := s.reloads(l.server)
			if idle := s.report(0, "renew"); idle.Changed || s.reloads(l.server) != before {
				t.Errorf("a run with nothing to do: %+v, %d reloads", idle, s.reloads(l.server)-before)
			}
			back := s.report(0, "rollback", "mx").Certificates[0]
			s.everywhere(same.Keys[0].Serial, l.server)
			if back.Keys[0].Serial != same.Keys[0].Serial {
				t.Errorf("rolled back to %+v, want %s", back.Keys, same.Keys[0].Serial)
			}
			s.unreadable(l)
		})
	}
}

// reloads counts those of the unit that does the work.
func (s *story) reloads(server string) int {
	s.t.Helper()
	n, err := s.ReloadCount(s.t.Context(), workerOf(server))
	s.check(err)
	return n
}

// unreadable makes sure that nobody but root can read a key that the server reads, a compiled map included.
func (s *story) unreadable(l layout) {
	s.t.Helper()
	out := must(s.t, s.Host, "sh", "-c", "grep -lr 'PRIVATE KEY' /etc/"+l.server+" | grep -v -e ssl-cert -e /private/")
	files := strings.Fields(out)
	if l.name == "sni_map" {
		files = append(files, "/etc/postfix/sni.db")
	}
	for _, file := range files {
		if info, err := s.Stat(file); err != nil || info.Mode().Perm()&0o007 != 0 || !strings.HasPrefix(info.Owner, "root:") {
			s.t.Errorf("%s: %v %v %v", file, info.Mode(), info.Owner, err)
		}
	}
	if len(files) == 0 {
		s.t.Error("no key at all was found")
	}
}

// Story 10: the administrator has broken the server's configuration. Nothing of the renewal reaches the server, and what was
// issued is deployed when that is mended.
func TestBrokenPostfixAndDovecot(t *testing.T) {
	for server, file := range map[string]string{"postfix": "/etc/postfix/main.cf", "dovecot": "/etc/dovecot/local.conf"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			l := findLayout(t, server, "pair")
			s := beginWith(t, "always", l)
			old := s.report(0, "renew").Certificates[0].Keys[0].Serial
			good, err := s.Get(file)
			s.check(err)
			s.check(s.Put(file, append(good, "this is no configuration {\n"...), 0o644))
			failed := s.report(5, "renew", "--now").Certificates[0]
			if failed.Error == nil || !strings.Contains(failed.Error.Message, server) || failed.Error.Hint == "" {
				t.Fatalf("the error is %+v", failed.Error)
			}
			s.everywhere(old, server)
			if got := s.fileSerial(strings.Fields(l.marks)[0]); got != old {
				t.Errorf("the file holds serial %s, want the old %s", got, old)
			}
			s.check(s.Put(file, good, 0o644))
			mended := s.report(0, "renew")
			if !mended.Changed || failed.Keys[0].Serial == old || mended.Certificates[0].Keys[0].Serial != failed.Keys[0].Serial {
				t.Errorf("after mending: %+v, want serial %s", mended, failed.Keys[0].Serial)
			}
			s.everywhere(failed.Keys[0].Serial, server)
		})
	}
}

// Story 11: one certificate for Postfix and Dovecot is in service at both, or at neither.
func TestServersAsOneTransaction(t *testing.T) {
	for _, names := range [][2]string{{"pair", "pair"}, {"sni_map", "directory"}} {
		t.Run(names[0]+" and "+names[1], func(t *testing.T) {
			t.Parallel()
			postfix, dovecot := findLayout(t, "postfix", names[0]), findLayout(t, "dovecot", names[1])
			s := beginWith(t, "always", postfix, dovecot)
			config, err := s.Get("/etc/mxcert/mxcert.yaml")
			s.check(err)
			s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(strings.Replace(string(config), "timeout: 60s", "timeout: 5s", 1)), 0o644))
			old := s.report(0, "renew").Certificates[0].Keys[0].Serial
			s.everywhere(old, "postfix", "dovecot")

			// The reload of the second fails, and then it says that it is done but is not.
			for _, program := range []string{"/bin/false", "/bin/true"} {
				s.reloadsBy("dovecot.service", program)
				before := s.reloads("postfix")
				failed := s.report(5, "renew", "--now", "--new-key").Certificates[0]
				if failed.Error == nil || !slices.Contains([]string{"reload", "verify"}, failed.Error.Stage) || !strings.Contains(failed.Error.Message, "previous certificate is back") {
					t.Fatalf("%s: the error is %+v", program, failed.Error)
				}
				if n := s.reloads("postfix") - before; n != 2 {
					t.Errorf("%s: Postfix was reloaded %d times, want there and back", program, n)
				}
				s.everywhere(old, "postfix", "dovecot")
			}
			must(t, s.Host, "rm", "-r", "/etc/systemd/system/dovecot.service.d")
			must(t, s.Host, "systemctl", "daemon-reload")
			mended := s.report(0, "renew").Certificates[0].Keys[0].Serial
			if mended == old {
				t.Error("what was issued is not in service")
			}
			s.everywhere(mended, "postfix", "dovecot")
		})
	}
}

// reloadsBy replaces the command that reloads a unit.
func (s *story) reloadsBy(unit, program string) {
	s.t.Helper()
	s.check(s.Put("/etc/systemd/system/"+unit+".d/reload.conf", []byte("[Service]\nExecReload=\nExecReload="+program+"\n"), 0o644))
	must(s.t, s.Host, "systemctl", "daemon-reload")
}

// TestLongSessions: whoever is logged in to Dovecot while it is reloaded stays so.
func TestLongSessions(t *testing.T) {
	s := beginWith(t, "always", findLayout(t, "dovecot", "pair"))
	s.report(0, "renew")
	var held []*mailhost.Held
	for _, address := range endpoints("dovecot") {
		h, err := s.Hold(address, true)
		s.check(err)
		s.check(h.Login())
		held = append(held, h)
	}
	s.report(0, "renew", "--now", "--new-key")
	time.Sleep(time.Second)
	for _, h := range held {
		if err := h.Use(); err != nil {
			t.Error(err)
		}
	}
}

// Story 12: the service without root's rights brings certificates to Postfix and Dovecot, whose keys only root may read.
func TestServiceWithPostfixAndDovecot(t *testing.T) {
	postfix, dovecot := findLayout(t, "postfix", "sni_map"), findLayout(t, "dovecot", "pair")
	s := begin(t, options{server: mailhost.Postfix, service: true, config: serversConfig(postfix.line("always")+dovecot.line("always"), "postfix", "dovecot")})
	s.lay(postfix, dovecot)
	for _, address := range append(endpoints("postfix"), endpoints("dovecot")...) {
		_, err := s.ServedBy(t.Context(), address, "mx.example.org", "")
		s.check(err)
	}
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	var first string
	within(t, time.Minute, "the first certificate", func() bool {
		served, err := s.ServedBy(t.Context(), "127.0.0.1:993", "mx.example.org", mailhost.RootsFile)
		first = served.Serial
		return err == nil && served.VerifyCode == 0
	})
	renewed := s.report(0, "renew", "--now", "--new-key").Certificates[0] // the daemon does it
	if renewed.Stage != "served" || renewed.Keys[0].Serial == first {
		t.Errorf("after %s: %+v", first, renewed)
	}
	s.everywhere(renewed.Keys[0].Serial, "postfix", "dovecot")
	s.unreadable(postfix)
	s.unreadable(dovecot)
	if user := must(t, s.Host, "systemctl", "show", "-p", "User", "mxcert.service"); strings.TrimSpace(user) != "User=mxcert" {
		t.Errorf("the service is %s", user)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/journal"
)

// events counts those of a kind in the history, of all that the daemon has noted.
func (s *story) events(kind string) (n int) {
	s.t.Helper()
	result, err := s.Run(s.t.Context(), "mxcert", "history", "--json")
	s.check(err)
	var history struct {
		Certificates []struct {
			Events []struct {
				Event string `json:"event"`
			} `json:"events"`
		} `json:"certificates"`
	}
	s.check(json.Unmarshal([]byte(result.Stdout), &history))
	for _, e := range history.Certificates[0].Events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

// asleep waits until the daemon has nothing to do.
func (s *story) asleep() {
	s.t.Helper()
	within(s.t, 60*time.Second, "all is in service", func() bool {
		result, err := s.Run(s.t.Context(), "mxcert", "status", "-q")
		return err == nil && result.Code == 0
	})
}

// What a package's upgrade or an operator does to the files is put right by the sandboxed service within a minute, without an
// order, and Exim serves the certificate.
func TestDrift(t *testing.T) {
	s := begin(t, options{service: true})
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	serial := s.servedByAuthority()
	s.asleep()
	orders := s.orders()
	for i, damage := range []struct{ name, script string }{
		{"key deleted", "rm " + keyFile},
		{"key unreadable for Exim", "chmod 600 " + keyFile},
		{"another certificate", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout " + keyFile + " -out " + certificateFile},
	} {
		began := time.Now()
		must(t, s.Host, "sh", "-c", damage.script)
		within(t, time.Minute, damage.name+" is healed", func() bool { return s.events("healed") == i+1 })
		figure(t, "drift, %s: healed and proven %.1f s later", damage.name, time.Since(began).Seconds())
		s.served(serial)
		if info, err := s.Stat(keyFile); err != nil || info.Mode().Perm() != 0o640 || info.Owner != "root:Debian-exim" || s.fileSerial(certificateFile) != serial {
			t.Errorf("%s: the key is %+v (%v), the certificate has serial %s, want %s", damage.name, info, err, s.fileSerial(certificateFile), serial)
		}
	}
	if n := s.orders(); n != orders {
		t.Errorf("healing cost %d orders", n-orders)
	}
	s.isUnprivileged()
}

// A tool that rewrites the certificate's file every second is not fought with: after three heals the service stops, alarms and
// says so. Commands by hand work all the same.
func TestFight(t *testing.T) {
	t.Parallel()
	s := begin(t, options{service: true})
	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	serial := s.servedByAuthority()
	s.asleep()
	orders := s.orders()

	must(t, s.Host, "sh", "-c", "mkdir /etc/exim4/away && mv /etc/exim4/exim.* /etc/exim4/away/")
	moved := time.Now()
	within(t, time.Minute, "what was moved away is back", func() bool { return s.events("healed") == 1 })
	figure(t, "drift, files moved away: healed and proven %.1f s later", time.Since(moved).Seconds())
	s.served(serial)

	s.check(s.Put("/root/managed", []byte("#!/bin/sh\nwhile sleep 1; do { echo '# managed by another tool'; grep -v '^#' "+certificateFile+"; } >/root/new; cat /root/new >"+certificateFile+"; done\n"), 0o755))
	must(t, s.Host, "systemd-run", "--unit", "managed", "/root/managed")
	alarms := func() int {
		return len(s.entries("-u", "mxcert", "-p", "err", fmt.Sprintf("--since=@%d", began.Unix()), "MESSAGE_ID="+journal.IDs()[journal.LeftAlone], "MXCERT_CERTIFICATE=mx", "MXCERT_KIND=drift"))
	}
	within(t, time.Minute, "the alarm in the journal", func() bool { return alarms() > 0 })
	time.Sleep(5 * time.Second) // it goes on
	says := func() {
		t.Helper()
		c := s.report(5, "status").Certificates[0]
		if c.Error == nil || c.Error.Kind != "drift" || !strings.Contains(c.Error.Message, certificateFile) || !strings.Contains(c.Error.Hint, "mxcert deploy mx") {
			t.Errorf("status says %+v", c.Error)
		}
		if text := s.mxcert("status"); text.Code != 5 || !strings.Contains(unfolded(text.Stdout), "repaired 3 times") {
			t.Errorf("status, exit code %d:\n%s", text.Code, text.Stdout)
		}
	}
	says()
	if healed, n := s.events("healed"), alarms(); healed != 3 || n != 1 {
		t.Errorf("%d heals, %d alarms", healed, n)
	}
	s.served(serial)

	for what, args := range map[string][]string{"deploy": {"deploy", "mx"}, "renew": {"renew"}} {
		if r := s.report(0, args...); !r.Changed || r.Certificates[0].Stage != "served" {
			t.Errorf("%s by hand: %+v", what, r)
		}
		within(t, 20*time.Second, "the file is rewritten", func() bool {
			return strings.HasPrefix(must(t, s.Host, "head", "-n", "1", certificateFile), "# managed")
		})
	}
	if n := s.orders(); n != orders {
		t.Errorf("all that cost %d orders", n-orders)
	}
	must(t, s.Host, "systemctl", "restart", "mxcert.service")
	within(t, time.Minute, "the alarm after a restart", func() bool { return alarms() > 1 })
	says()

	// When the tool is gone, one command makes all well, and renewals were never held up.
	must(t, s.Host, "systemctl", "stop", "managed")
	renewed := s.report(0, "renew", "--now").Certificates[0].Keys[0].Serial
	if renewed == serial {
		t.Error("nothing was renewed")
	}
	s.served(renewed)
	s.report(0, "status")
}

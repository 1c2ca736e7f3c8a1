package e2e

import (
	"strings"
	"testing"
	"time"
)

// Story 5: the daemon as a systemd service renews a short-lived certificate by itself, and nothing that an operator does
// to it costs mail.
func TestDaemon(t *testing.T) {
	s := begin(t, options{validity: 40 * time.Second, service: true})
	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	figure(t, "start of the service took %.2f s", time.Since(began).Seconds())

	serial := func() string {
		served, err := s.ServedBy(t.Context(), "127.0.0.1:25", "mx.example.org", "")
		if err != nil || len(served.Chain) < 2 {
			return ""
		}
		return served.Serial
	}
	var first string
	within(t, 30*time.Second, "a certificate of the authority is served", func() bool { first = serial(); return first != "" })

	var second string
	within(t, 60*time.Second, "the first renewal", func() bool { second = serial(); return second != "" && second != first })
	must(t, s.Host, "systemctl", "restart", "mxcert.service")
	s.running()
	var third string
	within(t, 60*time.Second, "the second renewal, after a restart", func() bool { third = serial(); return third != "" && third != second })

	// A broken edit keeps the configuration that was loaded, and is reported where an operator looks.
	pid := s.property("MainPID")
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(strings.Replace(hostConfig, "domains:", "domians:", 1)), 0o644))
	if r, err := s.Run(t.Context(), "systemctl", "reload", "mxcert.service"); err != nil || r.Code == 0 || s.property("ActiveState") != "active" {
		t.Errorf("a reload with a bad file: exit status %d, %v; the service is %s", r.Code, err, s.property("ActiveState"))
	}
	within(t, 20*time.Second, "the bad edit in the journal", func() bool {
		log, err := s.Journal(t.Context(), "mxcert.service", began)
		return err == nil && strings.Contains(log, "stays in force") && strings.Contains(log, "domians")
	})
	status := s.mxcert("status")
	if status.Code != 78 || !strings.Contains(status.Stdout+status.Stderr, "domians") || !strings.Contains(unfolded(status.Stdout), "stays in force") || !strings.Contains(status.Stdout, "mx:") {
		t.Errorf("status: exit code %d:\n%s%s", status.Code, status.Stdout, status.Stderr)
	}
	var fourth string
	within(t, 60*time.Second, "a renewal under the old configuration", func() bool { fourth = serial(); return fourth != "" && fourth != third })
	if got := s.property("MainPID"); got != pid {
		t.Errorf("the daemon was process %s and is %s", pid, got)
	}

	// A good edit is taken by itself, without a reload by hand; a reload succeeds.
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(strings.Replace(hostConfig, ", host7.example.org", "", 1)), 0o644))
	must(t, s.Host, "systemctl", "reload", "mxcert.service")
	within(t, 60*time.Second, "a certificate with the changed names", func() bool {
		served, err := s.ServedBy(t.Context(), "127.0.0.1:25", "mx.example.org", "")
		return err == nil && len(served.Names) == 1 && served.Names[0] == "mx.example.org"
	})
	must(t, s.Host, "systemctl", "reload", "mxcert.service")
	s.running()
	if got := s.property("NRestarts"); got != "0" {
		t.Errorf("the service was restarted %s times", got)
	}
	began = time.Now()
	must(t, s.Host, "systemctl", "stop", "mxcert.service")
	figure(t, "stop of the service took %.2f s", time.Since(began).Seconds())
	if got := s.property("Result"); got != "success" {
		t.Errorf("the service ended with %s", got)
	}
	s.noTXT()
}

func (s *story) property(name string) string {
	s.t.Helper()
	properties, err := s.Unit(s.t.Context(), "mxcert.service", name)
	s.check(err)
	return properties[name]
}

func (s *story) running() {
	s.t.Helper()
	if got := s.property("ActiveState") + " " + s.property("StatusText"); !strings.HasPrefix(got, "active 1 certificate") {
		s.t.Errorf("the service is %s", got)
	}
}

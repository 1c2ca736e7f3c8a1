package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// names are what the story of names reads of a report.
type names struct {
	Certificates []struct {
		Names    []string
		Reasons  map[string]string
		Awaited  []struct{ Name, Reason string }
		Leaving  []string
		Stage    string
		Warnings []string
		Senders  *struct {
			Domains  []string
			Findings []finding
		}
	}
}

type finding struct{ ID, Severity, Subject, Message string }

// names runs a command with --json.
func (s *story) names(code int, args ...string) (r names) {
	s.t.Helper()
	result := s.mxcert(append(args, "--json")...)
	if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil || result.Code != code || len(r.Certificates) != 1 {
		s.t.Fatalf("mxcert %v: exit code %d, want %d (%v)", args, result.Code, code, err)
	}
	return r
}

// zone changes a zone of the world as its owner does.
func (s *story) zone(lines ...string) {
	s.t.Helper()
	r, err := s.RunInput(s.t.Context(), strings.Join(lines, "\n")+"\nsend\n", "nsupdate", "-l")
	s.check(err)
	if r.Code != 0 {
		s.t.Fatalf("nsupdate %q: %s%s", lines, r.Stdout, r.Stderr)
	}
}

// An MX record begins to name this host: after two looks the service takes the name in, through a kill in between and with the restrictions
// that systemd puts on it. While BIND is dead nothing changes. When the record is gone, the name leaves with the next certificate.
func TestNamesFromMX(t *testing.T) {
	t.Parallel()
	const name = "mx2.example.org"
	config := strings.Replace(hostConfig, "host7.example.org]\n", "host7.example.org]\n    mail_domains: [example.com]\n    mail_domains_confirm: 10s\n", 1)
	s := begin(t, options{service: true, config: config})
	must(t, s.Host, "ip", "address", "add", "192.0.2.10/32", "dev", "lo")
	s.zone("update add "+name+" 60 A 192.0.2.10", "send", "update delete example.com MX", "update add example.com 60 MX 10 "+name+".")
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	within(t, 60*time.Second, "a certificate of the authority is served", func() bool {
		served, err := s.ServedBy(t.Context(), "127.0.0.1:25", "mx.example.org", "")
		return err == nil && len(served.Chain) > 1
	})
	must(t, s.Host, "systemctl", "kill", "--signal=KILL", "mxcert.service")
	must(t, s.Host, "systemctl", "restart", "mxcert.service")
	inCertificate := func() bool {
		return strings.Contains(must(t, s.Host, "openssl", "x509", "-in", certificateFile, "-noout", "-ext", "subjectAltName"), "DNS:"+name)
	}
	within(t, 30*time.Second, "the first look has found "+name, func() bool {
		if inCertificate() {
			t.Fatal("one look was enough")
		}
		c := s.names(0, "status").Certificates[0]
		return len(c.Awaited) == 1 && c.Awaited[0].Name == name && c.Awaited[0].Reason == "MX of example.com" && c.Reasons["mx.example.org"] == "configured"
	})
	within(t, 60*time.Second, name+" is in the certificate", inCertificate)
	s.asleep()
	c := s.names(0, "status").Certificates[0]
	if n := s.orders(); n != 2 || c.Stage != "served" || c.Reasons[name] != "MX of example.com" || !slices.Equal(c.Names, []string{"mx.example.org", "host7.example.org", name}) {
		t.Errorf("%d orders, %+v", n, c)
	}
	if text := s.mxcert("status").Stdout; !strings.Contains(unfolded(text), name+" (MX of example.com)") {
		t.Errorf("status says %s", text)
	}
	s.noTXT()

	// What senders meet is looked at after the deployment: Exim does not listen on the new address, so no mail comes in.
	within(t, 60*time.Second, "the daemon has looked as senders do", func() bool {
		c := s.names(0, "status").Certificates[0]
		return c.Senders != nil && slices.Equal(c.Senders.Domains, []string{"example.com"}) && slices.ContainsFunc(c.Senders.Findings, func(f finding) bool {
			return strings.Contains(f.Subject+f.Message, name)
		})
	})
	if n := strings.Count(must(t, s.Host, "journalctl", "-u", "mxcert", "-o", "cat", "--no-pager"), "senders meet a fault"); n == 0 {
		t.Error("the journal does not say what senders meet")
	}
	must(t, s.Host, "sh", "-c", "sed -i \"s/^dc_local_interfaces=.*/dc_local_interfaces='127.0.0.1 ; ::1 ; 192.0.2.10'/\" /etc/exim4/update-exim4.conf.conf && update-exim4.conf && systemctl restart exim4")

	// Without DNS no name changes, and nothing fails.
	must(t, s.Host, "systemctl", "stop", "named")
	for range 2 {
		time.Sleep(11 * time.Second)
		if c := s.names(0, "renew").Certificates[0]; !slices.Contains(c.Names, name) || len(c.Leaving) != 0 || c.Stage != "served" {
			t.Errorf("without BIND: %+v", c)
		}
	}
	if c := s.names(0, "status").Certificates[0]; !strings.Contains(fmt.Sprint(c.Warnings), "the MX records of example.com cannot be found") {
		t.Errorf("without BIND: %+v", c)
	}
	must(t, s.Host, "systemctl", "start", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))

	// The record is gone: two looks later the name is not wanted, and nothing is ordered because of it.
	s.zone("update delete example.com MX", "update add example.com 60 MX 10 mx.example.org.")
	s.names(0, "renew")
	within(t, 60*time.Second, "the name is leaving", func() bool {
		time.Sleep(5 * time.Second)
		return slices.Equal(s.names(0, "renew").Certificates[0].Leaving, []string{name})
	})
	if n := s.orders(); n != 2 || !inCertificate() {
		t.Errorf("%d orders", n)
	}
	history := s.mxcert("history").Stdout
	if strings.Count(history, "name-found") != 1 || strings.Count(history, "name-gone") != 1 {
		t.Errorf("history: %s", history)
	}
	if c := s.names(0, "renew", "--now").Certificates[0]; len(c.Leaving) != 0 || inCertificate() || s.orders() != 3 {
		t.Errorf("%d orders, %+v", s.orders(), c)
	}

	// The renewal was a deployment: senders were looked at again, and meet an Exim that answers.
	within(t, 60*time.Second, "the daemon has looked again", func() bool {
		c := s.names(0, "status").Certificates[0]
		return c.Senders != nil && !strings.Contains(fmt.Sprint(c.Senders.Findings), "refused")
	})

	// A person need not wait.
	s.zone("update delete example.com MX", "update add example.com 60 MX 10 "+name+".")
	if c := s.names(0, "renew", "--now").Certificates[0]; c.Reasons[name] != "MX of example.com" || !inCertificate() {
		t.Errorf("%+v", c)
	}
	s.noTXT()
	if out := must(t, s.Host, "find", "/var/lib/mxcert", "!", "-user", "mxcert", "-o", "-type", "f", "-perm", "/077"); strings.TrimSpace(out) != "" {
		t.Errorf("not private, or not of the service's user: %s", out)
	}
}

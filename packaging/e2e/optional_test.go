package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A customer's zone that does not let us in, and a name in our own zone that BIND's policy leaves out: Exim gets its certificate all the same,
// everybody says what is missing, and when the policy lets mxcert in, the daemon takes both names in.
func TestOptionalNamesThatBINDRefuses(t *testing.T) {
	t.Parallel()
	const ours, theirs = "smtp.example.org", "mail.example.com"
	config := strings.Replace(hostConfig, "host7.example.org]\n", "host7.example.org]\n    optional: ["+ours+", "+theirs+"]\n", 1)
	s := begin(t, options{service: true, config: config})
	open, err := s.Get("/etc/bind/named.conf")
	s.check(err)
	// The first grant is that of example.org, the second that of example.com.
	closed := strings.Replace(string(open), "grant mxcert. zonesub TXT TLSA;", "grant mxcert. name _acme-challenge.mx.example.org. TXT; grant mxcert. name _acme-challenge.host7.example.org. TXT;", 1)
	closed = strings.Replace(closed, "grant mxcert. zonesub TXT TLSA;", "", 1)
	s.check(s.Put("/etc/bind/named.conf", []byte(closed), 0o644))
	must(t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))

	began := time.Now()
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	within(t, 60*time.Second, "a certificate of the authority is served", func() bool {
		served, err := s.ServedBy(t.Context(), "127.0.0.1:25", "mx.example.org", "")
		return err == nil && len(served.Chain) > 1
	})
	s.asleep()
	first := s.report(0, "status")
	c := first.Certificates[0]
	if c.Stage != "served" || len(c.LeftOut) != 2 || c.LeftOut[0].Name != ours || c.LeftOut[1].Name != theirs || !strings.Contains(c.LeftOut[0].Reason, "REFUSED") || c.Error != nil {
		t.Fatalf("status: %+v", first)
	}
	s.served(c.Keys[0].Serial)
	names := func() string {
		return must(t, s.Host, "openssl", "x509", "-in", certificateFile, "-noout", "-ext", "subjectAltName")
	}
	if got := names(); !strings.Contains(got, "DNS:host7.example.org") || strings.Contains(got, ours) || strings.Contains(got, theirs) {
		t.Errorf("the certificate is for %s", got)
	}
	if n := s.orders(); n != 2 {
		t.Errorf("%d orders, want one that failed and one without the two names", n)
	}
	s.noTXT()

	// It is said where an operator looks.
	if status := s.mxcert("status"); status.Code != 0 || !strings.HasPrefix(lineOf(status.Stdout, "mx: "), "mx: served, without "+ours+", "+theirs) {
		t.Errorf("status: %d, %s", status.Code, status.Stdout)
	}
	warnings := must(t, s.Host, "journalctl", "-u", "mxcert", "-p", "warning", "--since", fmt.Sprintf("@%d", began.Unix()), "-o", "cat", "--no-pager")
	for _, name := range []string{ours, theirs} {
		if n := strings.Count(warnings, name+" is left out: "); n != 1 {
			t.Errorf("%d warnings about %s in the journal:\n%s", n, name, warnings)
		}
	}
	if text := must(t, s.Host, "systemctl", "show", "-p", "StatusText", "mxcert"); !strings.Contains(text, "mx is without "+ours+", "+theirs) {
		t.Errorf("systemctl status: %s", text)
	}
	if history := s.mxcert("history").Stdout; strings.Count(history, "left-out") != 2 {
		t.Errorf("history: %s", history)
	}
	if doctor := s.mxcert("doctor"); doctor.Code != 0 || !strings.Contains(doctor.Stdout, theirs+" is optional") {
		t.Errorf("doctor: %d, %s", doctor.Code, doctor.Stdout)
	}
	if verify := s.mxcert("verify"); verify.Code != 0 {
		t.Errorf("verify: %d, %s", verify.Code, verify.Stdout)
	}

	// Before its time nothing is ordered; a person's request tries the names at once.
	if again := s.report(0, "renew"); again.Changed || s.orders() != 2 {
		t.Errorf("%d orders: %+v", s.orders(), again)
	}
	s.check(s.Put("/etc/bind/named.conf", open, 0o644))
	must(t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))
	back := s.report(0, "renew", "--now")
	if c := back.Certificates[0]; len(c.LeftOut) != 0 || c.Stage != "served" || s.orders() != 3 {
		t.Errorf("%d orders: %+v", s.orders(), back)
	}
	s.served(back.Certificates[0].Keys[0].Serial)
	if got := names(); !strings.Contains(got, ours) || !strings.Contains(got, theirs) {
		t.Errorf("the certificate is for %s", got)
	}
	if text := must(t, s.Host, "systemctl", "show", "-p", "StatusText", "mxcert"); !strings.Contains(text, "all is well") {
		t.Errorf("systemctl status: %s", text)
	}
	s.noTXT()
}

// lineOf returns the first line that starts so.
func lineOf(text, start string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, start) {
			return line
		}
	}
	return ""
}

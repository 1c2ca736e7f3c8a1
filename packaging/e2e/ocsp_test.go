package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// sends says what Exim sends along with the certificate that it serves, as openssl sees it: its serial, and good, none or a description.
func (s *story) sends() (serial, response string) {
	s.t.Helper()
	served, err := s.ServedBy(s.t.Context(), "127.0.0.1:25", "mx.example.org", mailhost.RootsFile, "-status")
	switch {
	case err != nil:
		return "", err.Error()
	case strings.Contains(served.Output, "OCSP response: no response sent"):
		return served.Serial, "none"
	case strings.Contains(served.Output, "OCSP Response Status: successful") && strings.Contains(served.Output, "Cert Status: good"):
		number := strings.ToUpper(served.Serial)
		if !strings.Contains(served.Output, "Serial Number: "+number) {
			return served.Serial, "of another certificate: " + served.Output
		}
		return served.Serial, "good"
	}
	return served.Serial, served.Output
}

// sent waits until Exim sends that: a server that has just been reloaded, or that notices new files by itself, needs some seconds.
func (s *story) sent(serial, response string) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		gotSerial, got := s.sends()
		if gotSerial == serial && got == response {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("served is %s with %s; wanted %s with %s", gotSerial, got, serial, response)
		}
	}
}

// ocspOf is what status says about the response.
func (s *story) ocspOf(r report) string {
	s.t.Helper()
	k := r.Certificates[0].Keys[0]
	if k.OCSP == nil {
		return "nothing"
	}
	return strings.TrimSpace(k.OCSP.Status + " " + k.OCSP.Kind)
}

// until makes passes until one ends as wanted.
func (s *story) until(what string, ends func(mailhost.Result) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Second) {
		if ends(s.mxcert("renew", "--json")) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("not within three minutes: ", what)
		}
	}
}

// unavailable lists the sessions that were told 454 although no change of certificate and key was under way.
func unavailable(sessions []mailhost.Session, changes []time.Time) (during int, others []string) {
	for _, x := range sessions {
		if x.Err == nil || !strings.Contains(x.Err.Error(), "454") {
			continue
		}
		at := func(change time.Time) bool {
			return x.Began.After(change.Add(-2*time.Second)) && x.Began.Before(change.Add(time.Second))
		}
		near := false
		for _, change := range changes {
			near = near || at(change)
		}
		if near {
			during++
		} else {
			others = append(others, fmt.Sprintf("%s: %v", x.Began.Format(time.RFC3339Nano), x.Err))
		}
	}
	return during, others
}

// TestOCSP: real Exim with the responses of a real responder, from the first certificate over renewals with new keys under a load of
// connections to a responder that is down, does not know the certificate, and revokes it, until the response has expired and one comes again.
// Exim opens its files at each connection, so whatever is wrong with them is seen at once.
func TestOCSP(t *testing.T) {
	t.Parallel()
	s, r := stapling(t, "pair", "auto")
	s.staples(conditional)
	const workers = 2
	load := s.StartLoad(t.Context(), workers, 20*time.Millisecond, "127.0.0.1:25")
	var changes []time.Time
	changed := func(r report) string {
		changes = append(changes, s.renamed(certificateFile+" "+keyFile))
		return r.Certificates[0].Keys[0].Serial
	}

	first := changed(s.report(0, "renew"))
	s.sent(first, "good")
	second := changed(s.report(0, "renew", "--now", "--new-key"))
	s.sent(second, "good")
	verified := func(wants bool) {
		t.Helper()
		if result := s.mxcert("verify", "--json"); strings.Contains(result.Stdout, `"ocsp-not-sent"`) != wants {
			t.Errorf("verify says that no response is sent: %v", !wants)
		}
	}
	verified(false)

	// Down at a renewal: the old pair stays, with its response, until there is one of the new certificate.
	r.set(func(r *responder) { r.down = true })
	held := s.report(5, "renew", "--now", "--new-key")
	if e := held.Certificates[0].Error; e == nil || e.Kind != "ocsp-unavailable" {
		t.Errorf("%+v", e)
	}
	s.sent(second, "good")
	r.set(func(r *responder) { r.down, r.status, r.life = false, "", []string{"-nmin", "1"} })
	if e := s.report(5, "renew").Certificates[0].Error; e == nil || e.Kind != "ocsp-unknown" {
		t.Errorf("%+v", e)
	}
	s.sent(second, "good")
	r.set(func(r *responder) { r.status = "V" })
	third := changed(s.report(0, "renew"))
	s.sent(third, "good")

	// Its response lives for a minute. The CA forgets the certificate, and then revokes it: senders get the response that is in place.
	r.set(func(r *responder) { r.status = "" })
	asked := r.times()
	s.until("the responder does not know the certificate", func(mailhost.Result) bool { return r.times() > asked })
	if got := s.ocspOf(s.report(0, "status")); got != "unknown ocsp-unknown" {
		t.Errorf("status says %s", got)
	}
	s.sent(third, "good")
	r.set(func(r *responder) { r.status = "R" })
	s.until("the revocation is reported", func(r mailhost.Result) bool { return r.Code == 1 && strings.Contains(r.Stdout, `"ocsp-revoked"`) })
	s.served(third)

	// Down for longer than the response lives: it goes before Exim refuses it.
	r.set(func(r *responder) { r.down = true })
	s.until("the response is taken away before it expires", func(mailhost.Result) bool {
		_, err := s.Stat(stapleFile)
		return err != nil
	})
	s.sent(third, "none")
	verified(true)

	// And back again.
	r.set(func(r *responder) { r.down, r.status, r.life = false, "V", []string{"-ndays", "7"} })
	s.report(0, "renew")
	s.sent(third, "good")

	counts := load.Stop()
	during, others := unavailable(load.Sessions(), changes)
	figure(t, "%d certificates under load; told 454 while one changed: %d; %s", len(changes), during, counts)
	if len(others) > 0 || during > workers*len(changes) || counts.Served == 0 {
		t.Errorf("senders were told 454: %d during changes, others: %s", during, strings.Join(others[:min(len(others), 10)], "\n"))
	}
}

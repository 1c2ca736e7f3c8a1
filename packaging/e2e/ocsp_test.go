package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

const stapleFile = "/etc/exim4/ocsp.der"

// authorityOfResponses runs Debian's openssl as the OCSP responder of the host's authority. Its responses live for a minute.
type authorityOfResponses struct {
	*story
	lines []string // of index.txt, as openssl ca writes it
}

// stapling is a story whose certificates name a responder, and whose Exim sends its responses.
func stapling(t *testing.T) *authorityOfResponses {
	t.Helper()
	s := begin(t, options{config: strings.Replace(hostConfig, "group: Debian-exim}", "group: Debian-exim, ocsp: "+stapleFile+"}", 1)})
	s.check(s.StartPebbleWith(t.Context(), 90*24*time.Hour, map[string]any{"ocspResponderURL": "http://127.0.0.1:8888", "keyAlgorithm": "rsa"}))
	client, err := s.HTTPClient(mailhost.CAFile)
	s.check(err)
	defer client.CloseIdleConnections()
	for path, file := range map[string]string{"/intermediates/0": "/root/ocsp/ca.pem", "/intermediate-keys/0": "/root/ocsp/ca.key"} {
		answer, err := client.Get(mailhost.ManagementURL + path)
		s.check(err)
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		s.check(err)
		s.check(answer.Body.Close())
		s.check(s.Put(file, text, 0o600))
	}
	must(t, s.Host, "sh", "-ec", "echo 'tls_ocsp_file = ${if exists{"+stapleFile+"}{"+stapleFile+"}}' >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf; systemctl restart exim4")
	for _, address := range []string{"127.0.0.1:25", "[::1]:25"} {
		s.check(s.AwaitPort(t.Context(), address))
	}
	return &authorityOfResponses{story: s}
}

// knows makes the responder say something about one more certificate: V is good, R revoked.
func (a *authorityOfResponses) knows(serial, status string) {
	a.t.Helper()
	revoked := ""
	if status == "R" {
		revoked = time.Now().UTC().Format("060102150405Z") + ",keyCompromise"
	}
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	line := fmt.Sprintf("%s\t%s\t%s\t%s\tunknown\t/CN=%s", status, time.Now().AddDate(0, 0, 90).UTC().Format("060102150405Z"), revoked, strings.ToUpper(serial), serial) // openssl wants each subject once
	a.lines = append(a.lines, line)
	a.answers()
}

// answers starts the responder anew.
func (a *authorityOfResponses) answers() {
	a.t.Helper()
	a.silent()
	a.check(a.Put("/root/ocsp/index.txt", []byte(strings.Join(a.lines, "\n")+"\n"), 0o600))
	must(a.t, a.Host, "systemd-run", "--unit=responder", "--collect", "openssl", "ocsp", "-index", "/root/ocsp/index.txt", "-port", "8888", "-CA", "/root/ocsp/ca.pem",
		"-rsigner", "/root/ocsp/ca.pem", "-rkey", "/root/ocsp/ca.key", "-nmin", "1", "-ignore_err")
	a.check(a.AwaitPort(a.t.Context(), "127.0.0.1:8888"))
}

// silent stops the responder.
func (a *authorityOfResponses) silent() {
	a.t.Helper()
	_, err := a.Run(a.t.Context(), "sh", "-c", "systemctl stop responder 2>/dev/null; systemctl reset-failed responder 2>/dev/null; true")
	a.check(err)
}

// stapled wants Exim to send a good response of the certificate that it serves, or none.
func (a *authorityOfResponses) stapled(serial string, response bool) {
	a.t.Helper()
	served, err := a.ServedBy(a.t.Context(), "127.0.0.1:25", "mx.example.org", mailhost.RootsFile, "-status")
	a.check(err)
	good := strings.Contains(served.Output, "Cert Status: good")
	if served.Serial != serial || good != response || !response && !strings.Contains(served.Output, "OCSP response: no response sent") {
		a.t.Errorf("served is %s with a good response: %v; wanted %s: %v\n%s", served.Serial, good, serial, response, served.Output)
	}
}

// until makes passes until one ends as wanted.
func (a *authorityOfResponses) until(what string, ends func(mailhost.Result) bool) {
	a.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		if ends(a.mxcert("renew", "--json")) {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatal("not within two minutes: ", what)
		}
	}
}

// TestOCSP: real Exim with responses of a real responder, which goes away, comes back, does not know a certificate, and revokes one. Meanwhile
// no sender is told 454.
func TestOCSP(t *testing.T) {
	t.Parallel()
	a := stapling(t)
	load := a.StartLoad(t.Context(), 2, 20*time.Millisecond, "127.0.0.1:25")
	a.knows("01", "V") // a certificate of somebody else, and none of this host
	first := a.report(0, "renew").Certificates[0].Keys[0].Serial
	a.stapled(first, false)
	a.knows(first, "V")
	a.report(0, "renew")
	a.stapled(first, true)

	a.silent()
	held := a.report(5, "renew", "--now").Certificates[0]
	if held.Error == nil || held.Error.Kind != "ocsp-unavailable" {
		t.Errorf("%+v", held.Error)
	}
	second := held.Keys[0].Serial
	a.stapled(first, true) // the old pair, with its response
	a.knows(second, "V")
	a.report(0, "renew")
	a.stapled(second, true)

	a.lines = a.lines[:2]
	a.knows(second, "R")
	a.until("the revocation is told", func(r mailhost.Result) bool { return r.Code == 1 && strings.Contains(r.Stdout, `"ocsp-revoked"`) })
	a.served(second)
	a.silent() // for longer than the response lives
	a.until("the expired response goes away", func(mailhost.Result) bool {
		_, err := a.Stat(stapleFile)
		return err != nil
	})
	a.stapled(second, false)
	if counts := load.Stop(); counts.Unavailable > 0 || counts.Served == 0 {
		t.Errorf("senders met: %s", counts)
	}
}

package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/cttest"
)

// spotted lets Debian's unit read a log of ours, from its beginning.
const spotted = "[Service]\nExecStart=\nExecStart=/usr/bin/certspotter -logs /etc/certspotter/logs.json\n"

// The steps of mxcert-ct(7), as they are written: Debian's certspotter, as its own user, asks mxcert by sudo which certificates are ours, and
// Exim delivers a mail about the other one.
func TestCertspotterAsksMxcert(t *testing.T) {
	t.Parallel()
	s := begin(t, options{service: true})
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	s.servedByAuthority()
	page, err := os.ReadFile("../man/mxcert-ct.7.md")
	s.check(err)
	_, steps, found := strings.Cut(string(page), "# CERTSPOTTER\n\n```\n")
	steps, _, end := strings.Cut(steps, "```")
	if !found || !end {
		t.Fatal("mxcert-ct(7) has no steps")
	}
	hook, err := os.ReadFile("../hooks/certspotter")
	s.check(err)

	log, ca := cttest.NewLog(t, "log"), cttest.NewCA(t, "Somebody else")
	own := chainOf(t, must(t, s.Host, "sh", "-c", "cat /var/lib/mxcert/lineages/mx/2*/fullchain.pem"))
	foreign, _ := ca.Issue(t, cttest.Template(t, time.Now().Add(90*24*time.Hour), "mx.example.org"), cttest.Key(t).Public())
	log.Take(t, own[0], own[1])
	log.Take(t, foreign, ca.Certificate)
	list := cttest.LogList(t, cttest.Listed{Log: log, URL: "http://127.0.0.1:8080/"})
	files := map[string][]byte{"/usr/share/doc/mxcert/examples/certspotter": hook, "/etc/certspotter/logs.json": list, "/etc/systemd/system/certspotter.service.d/log.conf": []byte(spotted)}
	for path, query := range map[string]string{"ct/v1/get-sth": "", "ct/v1/get-entries": "?start=0&end=1"} { // what the log would answer, as files
		response, err := http.Get(log.Serve(t) + path + query)
		s.check(err)
		files["/srv/log/"+path], err = io.ReadAll(response.Body)
		s.check(err)
		response.Body.Close()
	}
	for path, content := range files {
		must(t, s.Host, "install", "-d", path[:strings.LastIndex(path, "/")])
		s.check(s.Put(path, content, 0o644))
	}
	must(t, s.Host, "systemd-run", "--unit=log", "python3", "-m", "http.server", "-b", "127.0.0.1", "-d", "/srv/log", "8080")
	within(t, 60*time.Second, "the log answers", func() bool {
		return must(t, s.Host, "sh", "-c", "ss -Hltn 'sport = 8080'") != ""
	})

	must(t, s.Host, "sh", "-exc", steps)
	const mailed = "cat /var/mail/* 2>/dev/null || true"
	within(t, 2*time.Minute, "a mail about the foreign certificate", func() bool {
		return strings.Contains(must(t, s.Host, "sh", "-c", mailed), "not ours: mxcert did not order it, serial "+bundle.SerialOf(foreign))
	})
	if n := strings.TrimSpace(must(t, s.Host, "sh", "-c", "ls /var/cache/certspotter/certs/*/*.pem | wc -l")); n != "2" {
		t.Errorf("certspotter has found %s certificates, not 2", n)
	}
	if text := must(t, s.Host, "sh", "-c", mailed); strings.Count(text, "[certspotter]") != 1 || strings.Contains(text, bundle.SerialOf(own[0])) {
		t.Errorf("the mailbox:\n%s", text)
	}
	if state := strings.TrimSpace(must(t, s.Host, "systemctl", "is-active", "certspotter")); state != "active" {
		t.Errorf("certspotter is %s", state)
	}
	if said := must(t, s.Host, "journalctl", "-q", "-u", "certspotter", "-o", "cat"); strings.Contains(strings.ToLower(said), "error") {
		t.Errorf("certspotter says\n%s", said)
	}
}

// chainOf reads certificates in PEM: a leaf and its issuer, at least.
func chainOf(t *testing.T, text string) (chain []*x509.Certificate) {
	t.Helper()
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	if len(chain) < 2 {
		t.Fatalf("%d certificates", len(chain))
	}
	return chain
}

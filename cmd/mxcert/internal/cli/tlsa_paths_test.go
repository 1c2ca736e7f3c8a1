package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// legoTree writes the deployed pair as lego stores it.
func (h *host) legoTree(name string) string {
	h.t.Helper()
	tree := h.Path(name)
	h.check(os.MkdirAll(filepath.Join(tree, "certificates"), 0o700))
	for ext, from := range map[string]string{"crt": "mx.crt", "key": "mx.key"} {
		text, err := os.ReadFile(h.Path("tls", from))
		h.check(err)
		h.check(os.WriteFile(filepath.Join(tree, "certificates", "mx.example.org."+ext), text, 0o600))
	}
	h.check(os.WriteFile(filepath.Join(tree, "certificates", "mx.example.org.json"), []byte(`{"domain": "mx.example.org", "certUrl": "`+h.CA.DirectoryURL()+`"}`), 0o600))
	return tree
}

// An imported certificate meets the gate: one with the key of the records goes into service, an old one of another client does not.
func TestImportMeetsTheGate(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	h.report(report.CodeOK, "renew")
	old := h.legoTree("old")
	h.report(report.CodeOK, "renew", "--new-key")
	now, served := h.legoTree("now"), h.chain()[0]
	h.records("3 1 1 " + bundle.SPKIOf(served.RawSubjectPublicKeyInfo))
	h.check(os.RemoveAll(h.Path("state")))
	h.check(os.Mkdir(h.Path("state"), 0o700))
	if r := h.imports("lego", old); len(r.Imported) != 1 || !r.Imported[0].Stored {
		t.Fatalf("%+v", r)
	}
	c := h.report(report.CodeNotInService, "renew").Certificates[0]
	if c.Error == nil || c.Error.Kind != "dane" || !h.chain()[0].Equal(served) {
		t.Fatalf("%+v", c.Error)
	}
	if r := h.imports("lego", now, "--force"); len(r.Imported) != 1 || !r.Imported[0].Stored {
		t.Fatalf("%+v", r)
	}
	if c = h.report(report.CodeOK, "renew").Certificates[0]; c.Stage != report.Served || !h.chain()[0].Equal(served) {
		t.Errorf("%+v", c)
	}
}

// A renamed certificate has another key, which the records lack: it is not ordered over the one that senders accept, and the message says how
// to keep the key. With its record beside the old one, it goes into service.
func TestRenamedCertificateMeetsTheGate(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].SPKI
	h.records("3 1 1 " + key)
	h.report(report.CodeOK, "renew")
	served := h.chain()[0]
	h.edit("name: mx\n", "name: post\n")
	c := h.report(report.CodeNotInService, "renew").Certificates[0]
	if c.Error == nil || c.Error.Kind != "dane" || len(c.Error.Publish) != 1 || !h.chain()[0].Equal(served) {
		t.Fatalf("%+v", c.Error)
	}
	if !strings.Contains(strings.Join(c.Warnings, "\n"), "call the certificate mx again") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	_, record, _ := strings.Cut(c.Error.Publish[0], " TLSA ")
	h.records("3 1 1 "+key, record)
	eventually(t, "the certificate of the new name is in service", func() bool {
		h.run("renew")
		return !h.chain()[0].Equal(served)
	})
	if got := "3 1 1 " + bundle.SPKIOf(h.chain()[0].RawSubjectPublicKeyInfo); got != record {
		t.Errorf("%s is served, want %s", got, record)
	}
}

// The running daemon publishes, changes the key when it is asked, removes the old record after the grace, and publishes another next key: it
// wakes for each step.
func TestRolloverByTheDaemon(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "publish", lab.Options{})
	h.edit("ttl: 2s", "ttl: 1s")
	d := h.daemon()
	steady := func(but string) (spki, next string) {
		eventually(t, "a steady state", func() bool {
			r, _ := h.status()
			c := r.Certificates[0]
			if c.TLSA == nil || c.TLSA.State != "steady" || c.Keys[0].SPKI == but {
				return false
			}
			spki, next = c.Keys[0].SPKI, c.TLSA.Keys[0].Next
			return true
		})
		return spki, next
	}
	first, next := steady("")
	if got := h.run("tlsa", "roll"); got.code != report.CodeOK {
		t.Fatalf("%d\n%s%s", got.code, got.stdout, got.stderr)
	}
	second, third := steady(first)
	if second != next || third == "" || third == first {
		t.Errorf("the keys are %s and then %s, next %s", first, second, third)
	}
	var ours []string
	for _, r := range h.tlsaCheck(report.CodeOK).TLSA.Records {
		ours = append(ours, strings.TrimPrefix(r.Record, "3 1 1 "))
	}
	if len(ours) != 2 || !strings.Contains(strings.Join(ours, " "), second) || !strings.Contains(strings.Join(ours, " "), third) {
		t.Errorf("the records name %q, want %s and %s", ours, second, third)
	}
	d.stop()
}

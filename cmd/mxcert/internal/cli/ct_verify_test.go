package cli

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/cttest"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A mail server shows a certificate with SCTs, in a real handshake: verify lists them, and checks their signatures if there is a log list.
func TestVerifyShowsSCTs(t *testing.T) {
	t.Parallel()
	listed, stranger, rejected := cttest.NewLog(t, "Good log"), cttest.NewLog(t, "Stranger"), cttest.NewLog(t, "Bad log")
	file := filepath.Join(t.TempDir(), "list.json")
	list := cttest.LogList(t, cttest.Listed{Log: listed, Tiled: true}, cttest.Listed{Log: rejected, State: "rejected"})
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Extra: "ct: {log_list: " + file + "}\n"})
	ca, key := cttest.NewCA(t, "CA"), cttest.Key(t)
	template := cttest.Template(t, time.Now().Add(90*24*time.Hour), "mx.example.org")
	c, pre := ca.Issue(t, template, key.Public(), listed, stranger, rejected)
	forged := listed.Sign(t, pre, ca.Certificate, time.Now().Add(-time.Hour))
	forged[len(forged)-1] ^= 1
	spoilt := ca.Embed(t, template, key.Public(), cttest.List(forged))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	h.check(err)
	shows := func(c *x509.Certificate) {
		h.check(os.WriteFile(h.Path("tls", "mx.crt"), slices.Concat(inPEM(c), inPEM(ca.Certificate)), 0o640))
		h.check(os.WriteFile(h.Path("tls", "mx.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o640))
		h.check(h.SMTP.Reload())
	}
	sees := func(want ...string) {
		t.Helper()
		said := strings.Join(strings.Fields(h.run("verify").stdout), " ") // lines are as wide as a terminal
		for _, text := range want {
			if !strings.Contains(said, text) {
				t.Errorf("%q is not in\n%s", text, said)
			}
		}
	}

	shows(c)
	all := h.verified(report.CodeFault).Hosts[0].SCTs // nobody trusts this CA
	if len(all) != 3 || all[0].Log != "Good log" || !all[0].Checked || all[0].Error != "" || all[0].Serial != bundle.SerialOf(c) || all[0].At == nil ||
		all[1].Log != "" || all[1].Checked || !strings.Contains(all[1].Error, "does not have this log") || all[2].Log != "Bad log" || !all[2].Checked || !strings.Contains(all[2].Error, "is rejected") {
		t.Errorf("%+v", all)
	}
	sees("SCTs 1: Good log at "+all[0].At.Format(time.RFC3339)+"; the signatures are good", "cannot be checked: log "+all[1].LogID+": the log list does not have this log", `does not count: "Bad log" is rejected`)

	shows(spoilt)
	if all = h.verified(report.CodeFault).Hosts[0].SCTs; len(all) != 1 || !all[0].Checked || !strings.Contains(all[0].Error, "the signature is not that of") {
		t.Errorf("a forged signature: %+v", all)
	}
	sees("SCTs none that is known to count", "does not count: the signature is not that of")

	h.check(os.WriteFile(file, []byte("<html>"), 0o600)) // without a usable list nothing is checked
	if all = h.verified(report.CodeFault).Hosts[0].SCTs; len(all) != 1 || all[0].Checked || all[0].Error != "" {
		t.Errorf("without a log list: %+v", all)
	}
	sees("SCTs 1: log "+all[0].LogID+" at", "signatures not checked")
}

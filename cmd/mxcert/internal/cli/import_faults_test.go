package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A tree that lego made with --no-bundle has the issuer in a file of its own. The certificate goes into service with it. Without that file
// only the key is used: nothing incomplete is put in service, and the next pass orders a certificate with the same key.
func TestImportLegoWithoutBundle(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	h.edit("  roots_file:", "  # roots_file:")
	tree := h.Path("lego")
	h.client("lego", []string{"LEGO_CA_CERTIFICATES=" + h.Path("ca.pem"), "EXEC_PATH=/bin/true", "EXEC_POLLING_INTERVAL=1", "EXEC_SEQUENCE_INTERVAL=1"},
		"--path", tree, "--server", h.CA.DirectoryURL(), "--accept-tos", "--email", "postmaster@example.org", "--dns", "exec", "--dns.disable-cp",
		"--dns.resolvers", h.Primary.Address(), "--domains", "mx.example.org", "--domains", "host7.example.org", "run", "--no-bundle")
	key, err := os.ReadFile(filepath.Join(tree, "certificates/mx.example.org.key"))
	h.check(err)
	complete := func() {
		t.Helper()
		text, err := os.ReadFile(h.Path("tls", "mx.crt"))
		h.check(err)
		if chain, err := bundle.ParseChain(text); err != nil || len(chain) < 2 {
			t.Errorf("%d certificates are deployed, %v", len(chain), err)
		}
	}
	r := h.imports("lego", tree, "--directory", h.CA.DirectoryURL())
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !strings.Contains(notes, "mxcert takes the issuer from "+filepath.Join(tree, "certificates/mx.example.org.issuer.crt")) {
		t.Errorf("notes: %s", notes)
	}
	h.takenOver(r, key)
	complete()

	h.check(os.Remove(filepath.Join(tree, "certificates/mx.example.org.issuer.crt")))
	h.check(os.RemoveAll(h.Path("state")))
	r = h.imports("lego", tree, "--directory", h.CA.DirectoryURL())
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !strings.Contains(notes, "the next pass orders a certificate with its key") {
		t.Errorf("notes: %s", notes)
	}
	orders := h.placed()
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != "served" || c.Keys[0].Serial == r.Imported[0].Serial || h.placed() != orders+1 {
		t.Errorf("%d orders, %+v", h.placed()-orders, c)
	}
	deployed, err := os.ReadFile(h.Path("tls", "mx.key"))
	h.check(err)
	if complete(); !samePublicKey(t, deployed, key) {
		t.Error("the private key is another one")
	}
}

// certbot makes a second lineage for the same names if somebody asks for it. The one that is valid for longest is in service afterwards.
func TestImportCertbotSeveral(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	tree := h.Path("letsencrypt")
	for _, name := range []string{"mail-0002", "mail", "mail-0001"} {
		h.client("certbot", []string{"REQUESTS_CA_BUNDLE=" + h.Path("ca.pem")}, "certonly", "--config-dir", tree, "--work-dir", h.Path("work"), "--logs-dir", h.Path("logs"),
			"--server", h.CA.DirectoryURL(), "--non-interactive", "--agree-tos", "--email", "postmaster@example.org", "--no-eff-email", "--key-type", "ecdsa",
			"--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true", "-d", "mx.example.org", "-d", "host7.example.org", "--cert-name", name, "--duplicate")
	}
	key, err := os.ReadFile(filepath.Join(tree, "live/mail-0001/privkey.pem"))
	h.check(err)
	r := h.imports("certbot", tree)
	stored := 0
	for _, one := range r.Imported {
		if one.Stored {
			stored++
		}
		if one.Stored != strings.HasSuffix(one.From, "/mail-0001.conf") || one.Name != "mx" {
			t.Errorf("%+v", one)
		}
	}
	if len(r.Imported) != 3 || stored != 1 {
		t.Fatalf("%d of %d are stored", stored, len(r.Imported))
	}
	if h.report(report.CodeOK, "renew"); h.CA.Count(ca.NewOrder) != 3 {
		t.Errorf("%d orders", h.CA.Count(ca.NewOrder))
	}
	deployed, err := os.ReadFile(h.Path("tls", "mx.key"))
	h.check(err)
	if !samePublicKey(t, deployed, key) {
		t.Error("the private key is not that of the newest certificate")
	}

	chain, err := os.ReadFile(filepath.Join(tree, "live/mail/fullchain.pem"))
	h.check(err)
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), chain, 0o600))
	h.check(os.RemoveAll(h.Path("state")))
	for _, one := range h.imports("certbot", tree).Imported {
		if one.Stored != strings.HasSuffix(one.From, "/mail.conf") {
			t.Errorf("mail is in service: %+v", one)
		}
	}
}

// A person reads what is wrong with a tree, and the next step; the rest of it is taken over, and the exit code is 4. Programs read the same.
func TestImportFaults(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	donor := h.current()
	tree := h.Path("lego")
	h.check(os.MkdirAll(filepath.Join(tree, "certificates"), 0o700))
	for name, text := range map[string][]byte{"mx.key": donor.KeyPEM(), "mx.crt": donor.FullchainPEM(), "first.key": donor.KeyPEM(), "first.crt": append(donor.ChainPEM(), donor.LeafPEM()...)} {
		h.check(os.WriteFile(filepath.Join(tree, "certificates", name), text, 0o600))
	}
	h.check(os.RemoveAll(h.Path("state")))
	got := h.run("import", "lego", tree, "--dry-run")
	if got.code != report.CodeSome || !strings.Contains(got.stdout, "mx.crt: would be taken over as mx") || strings.Contains(got.stdout, "first.crt") ||
		!strings.Contains(got.stderr, "mxcert: first of lego: "+tree+"/certificates/first.crt: the certificate of the issuer ") || !strings.Contains(got.stderr, "→ put the certificate of the host first in that file") {
		t.Errorf("%+v", got)
	}
	got = h.run("import", "lego", tree, "--json")
	var r importReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeSome || len(r.Imported) != 2 || r.Imported[0].Hint == "" || !r.Imported[1].Stored || !r.Imported[1].Chosen {
		t.Errorf("%v, %+v, %+v", err, got, r)
	}
	got = h.run("import", "lego", tree)
	if !strings.Contains(got.stdout, "mx.crt: not taken over as mx") || !strings.Contains(got.stdout, "mxcert has this certificate already") {
		t.Errorf("%+v", got)
	}
	h.check(os.Remove(filepath.Join(tree, "certificates/mx.crt")))
	h.check(os.Remove(filepath.Join(tree, "certificates/mx.key")))
	if got = h.run("import", "lego", tree); got.code != report.CodeFailed {
		t.Errorf("%+v", got)
	}
	got = h.run("import", "acme.sh", tree)
	if got.code != report.CodeFailed || !strings.Contains(got.stderr, "there is no certificate of acme.sh below "+tree) || !strings.Contains(got.stderr, "→ mxcert looks for NAME/NAME.conf") {
		t.Errorf("%+v", got)
	}
	if got = h.run("import", "lego", tree, "--accounts", tree); got.code != report.CodeUsage {
		t.Errorf("%+v", got)
	}
}

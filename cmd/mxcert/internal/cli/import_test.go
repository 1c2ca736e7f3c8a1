package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// client runs another ACME client against the lab's CA.
func (h *host) client(name string, env []string, args ...string) {
	h.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") != "" {
			h.t.Fatalf("the Debian package %s is needed: %v", name, err)
		}
		h.t.Skipf("the Debian package %s is not installed", name)
	}
	cmd := exec.CommandContext(h.t.Context(), path, args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.Directory, "LC_ALL=C.UTF-8"}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// treeSum is a tree's content, modes and times of change.
func treeSum(t *testing.T, root string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, info.Mode(), info.ModTime().UnixNano(), info.Size())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum.Write(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// imports runs import and reads its result.
func (h *host) imports(args ...string) importReport {
	h.t.Helper()
	got := h.run(append([]string{"import", "--json"}, args...)...)
	var r importReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeOK {
		h.t.Fatalf("import %v: %d, %v\n%s%s", args, got.code, err, got.stdout, got.stderr)
	}
	return r
}

// takenOver checks that the certificate is in service without an order, with the same key and the same account, and that
// the next order keeps both.
func (h *host) takenOver(r importReport, key []byte) {
	h.t.Helper()
	if len(r.Imported) != 1 || !r.Changed || !r.Imported[0].Stored || r.Imported[0].Name != "mx" || r.Imported[0].Account == "" {
		h.t.Fatalf("%+v", r)
	}
	orders, accounts := h.CA.Count(ca.NewOrder), h.CA.Count(ca.NewAccount)
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != "served" || c.Keys[0].Serial != r.Imported[0].Serial || h.CA.Count(ca.NewOrder) != orders {
		h.t.Fatalf("%d orders, %+v", h.CA.Count(ca.NewOrder)-orders, c)
	}
	next := h.report(report.CodeOK, "renew", "--now").Certificates[0]
	if next.Keys[0].SPKI != c.Keys[0].SPKI || next.Keys[0].Serial == c.Keys[0].Serial {
		h.t.Errorf("key %s and then %s", c.Keys[0].SPKI, next.Keys[0].SPKI)
	}
	if n := h.CA.Count(ca.NewAccount); n != accounts {
		h.t.Errorf("%d new accounts were asked for", n-accounts)
	}
	deployed, err := os.ReadFile(h.Path("tls", "mx.key"))
	h.check(err)
	if !samePublicKey(h.t, deployed, key) {
		h.t.Error("the private key is another one")
	}
}

func samePublicKey(t *testing.T, a, b []byte) bool {
	t.Helper()
	var texts [2][]byte
	for i, key := range [][]byte{a, b} {
		cmd := exec.CommandContext(t.Context(), "openssl", "pkey", "-pubout")
		cmd.Stdin = bytes.NewReader(key)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = out
	}
	return bytes.Equal(texts[0], texts[1])
}

func TestImportCertbot(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	tree := h.Path("letsencrypt")
	h.client("certbot", []string{"REQUESTS_CA_BUNDLE=" + h.Path("ca.pem")}, "certonly", "--config-dir", tree, "--work-dir", h.Path("work"), "--logs-dir", h.Path("logs"),
		"--server", h.CA.DirectoryURL(), "--non-interactive", "--agree-tos", "--email", "postmaster@example.org", "--no-eff-email", "--key-type", "ecdsa",
		"--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true", "--manual-cleanup-hook", "/bin/true", "--deploy-hook", "systemctl reload exim4",
		"-d", "mx.example.org", "-d", "host7.example.org", "--cert-name", "mail")
	key, err := os.ReadFile(filepath.Join(tree, "live/mail/privkey.pem"))
	h.check(err)
	before := treeSum(t, tree)
	dry := h.imports("certbot", tree, "--dry-run")
	if dry.Changed || len(dry.Imported) != 1 {
		t.Errorf("%+v", dry)
	}
	if entries, _ := os.ReadDir(h.Path("state", "lineages")); len(entries) > 0 {
		t.Error("--dry-run stored something")
	}
	r := h.imports("certbot", tree)
	if after := treeSum(t, tree); after != before {
		t.Error("certbot's tree was changed")
	}
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !strings.Contains(notes, "systemctl reload exim4") || !strings.Contains(notes, "certbot-hook") {
		t.Errorf("notes: %s", notes)
	}
	h.takenOver(r, key)
	if again := h.imports("certbot", tree); again.Changed || !strings.Contains(strings.Join(again.Imported[0].Notes, " "), "keeps it; --force") {
		t.Errorf("again: %+v", again)
	}
}

func TestImportLego(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	tree := h.Path("lego")
	h.client("lego", []string{"LEGO_CA_CERTIFICATES=" + h.Path("ca.pem"), "EXEC_PATH=/bin/true", "EXEC_POLLING_INTERVAL=1", "EXEC_SEQUENCE_INTERVAL=1"},
		"--path", tree, "--server", h.CA.DirectoryURL(), "--accept-tos", "--email", "postmaster@example.org", "--dns", "exec", "--dns.disable-cp",
		"--dns.resolvers", h.Primary.Address(), "--domains", "mx.example.org", "--domains", "host7.example.org", "run")
	key, err := os.ReadFile(filepath.Join(tree, "certificates/mx.example.org.key"))
	h.check(err)
	before := treeSum(t, tree)
	r := h.imports("lego", tree, "--directory", h.CA.DirectoryURL())
	if after := treeSum(t, tree); after != before {
		t.Error("lego's tree was changed")
	}
	h.takenOver(r, key)
}

// acme.sh is no Debian package: its tree is made here as its own documentation and scripts lay it out.
func TestImportAcmeSh(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	donor := h.current()
	account, ok, err := state.New(disk.At(h.Path("state"))).Account(h.CA.DirectoryURL())
	if err != nil || !ok {
		t.Fatal(err)
	}
	tree := h.Path("acme.sh")
	dir := filepath.Join(tree, "mx.example.org_ecc")
	u, err := url.Parse(h.CA.DirectoryURL())
	h.check(err)
	caDir := filepath.Join(tree, "ca", u.Hostname(), u.Path) // without the port
	h.check(os.MkdirAll(dir, 0o700))
	h.check(os.MkdirAll(caDir, 0o700))
	reload := "__ACME_BASE64__START_" + base64.StdEncoding.EncodeToString([]byte("systemctl reload exim4")) + "__ACME_BASE64__END_"
	for path, text := range map[string]string{
		filepath.Join(dir, "mx.example.org.conf"): fmt.Sprintf("Le_Domain='mx.example.org'\nLe_Alt='host7.example.org'\nLe_Webroot='dns_nsupdate'\nLe_API='%s'\nLe_ReloadCmd='%s'\n", h.CA.DirectoryURL(), reload),
		filepath.Join(dir, "mx.example.org.key"):  string(donor.KeyPEM()),
		filepath.Join(dir, "fullchain.cer"):       string(donor.FullchainPEM()),
		filepath.Join(caDir, "account.key"):       account.Key,
		filepath.Join(caDir, "ca.conf"):           fmt.Sprintf("ACCOUNT_URL='%s'\nCA_EMAIL='postmaster@example.org'\n", account.URL),
	} {
		h.check(os.WriteFile(path, []byte(text), 0o600))
	}
	h.check(os.RemoveAll(h.Path("state")))
	r := h.imports("acme.sh", tree)
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !strings.Contains(notes, "systemctl reload exim4") {
		t.Errorf("notes: %s", notes)
	}
	h.takenOver(r, donor.KeyPEM())
}

// What the configuration does not name is proposed in a form that the configuration takes.
func TestImportProposes(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	donor := h.current()
	tree := h.Path("lego")
	h.check(os.MkdirAll(filepath.Join(tree, "certificates"), 0o700))
	for name, text := range map[string][]byte{"mx.key": donor.KeyPEM(), "mx.crt": donor.FullchainPEM(), "mx.json": []byte(`{"certUrl": "https://ca.example.org/1"}`)} {
		h.check(os.WriteFile(filepath.Join(tree, "certificates", name), text, 0o600))
	}
	h.edit(`["mx.example.org", "host7.example.org"]`, `["mx.example.org"]`)
	h.check(os.RemoveAll(h.Path("state")))
	r := h.imports("lego", tree, "--dry-run")
	one := r.Imported[0]
	if one.Name != "mx-2" || one.Proposal == "" || !strings.Contains(strings.Join(one.Notes, " "), "the configuration has mx for mx.example.org") || !strings.Contains(strings.Join(one.Notes, " "), "--directory") {
		t.Fatalf("%+v", one)
	}
	h.check(os.MkdirAll(h.Path("conf.d"), 0o755))
	h.put("conf.d/imported.yaml", strings.Replace(one.Proposal, `name: "mx-2"`, `name: "2025"`, 1))
	if got := h.run("check"); got.code != report.CodeOK {
		t.Errorf("the proposal is no configuration: %s%s", got.stdout, got.stderr)
	}
	if got := h.run("import", "certbot", h.Path("nothing")); got.code == report.CodeOK || !strings.Contains(got.stderr, "no such file") {
		t.Errorf("%+v", got)
	}
	if got := h.run("import", "getssl"); got.code != report.CodeUsage {
		t.Errorf("%+v", got)
	}
}

// current is the bundle that the state says is current.
func (h *host) current() *bundle.Bundle {
	h.t.Helper()
	lineage := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := lineage.Look()
	h.check(err)
	b, err := lineage.Bundle(record.Keys[bundle.EC256].Current)
	h.check(err)
	return b
}

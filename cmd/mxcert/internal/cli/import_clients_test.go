package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// dehydrated names its CA and hook in a file of settings, and its account by the CA's address.
func TestImportDehydrated(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	tree := h.Path("dehydrated")
	h.check(os.MkdirAll(tree, 0o700))
	h.put("dehydrated/config", fmt.Sprintf("CA=%q\nCHALLENGETYPE=\"dns-01\"\nHOOK=/bin/true\nBASEDIR=%q\nKEY_ALGO=prime256v1\nCONTACT_EMAIL=postmaster@example.org\nCURL_OPTS=\"--cacert %s\"\n", h.CA.DirectoryURL(), tree, h.Path("ca.pem")))
	h.client("dehydrated", nil, "--config", h.Path("dehydrated/config"), "--register", "--accept-terms")
	h.client("dehydrated", nil, "--config", h.Path("dehydrated/config"), "--cron", "--domain", "mx.example.org host7.example.org")
	key, err := os.ReadFile(filepath.Join(tree, "certs/mx.example.org/privkey.pem"))
	h.check(err)
	before := treeSum(t, tree)
	r := h.imports("dehydrated", tree)
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !strings.Contains(notes, "= /bin/true: dehydrated calls it") {
		t.Errorf("notes: %s", notes)
	}
	h.takenOver(r, key)
	if after := treeSum(t, tree); after != before {
		t.Error("dehydrated's tree was changed")
	}
}

// withoutPersist takes the challenge dns-persist-01 out of the answers of a CA: it has no token, and uacme expects one in each.
func withoutPersist(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		var document map[string]any
		if err := json.Unmarshal(body, &document); err == nil {
			if challenges, ok := document["challenges"].([]any); ok {
				document["challenges"] = slices.DeleteFunc(challenges, func(c any) bool { return c.(map[string]any)["type"] == "dns-persist-01" })
				body, _ = json.Marshal(document)
			}
		}
		maps.Copy(w.Header(), answer.Header())
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	})
}

// uacme trusts only the CAs of the system, so it runs where the system's file has that of the lab.
func TestImportUacmeItself(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can show another file to uacme")
	}
	h := newHost(t, lab.Options{CA: ca.Options{SkipValidation: true}}, configDefault)
	h.CA.SetWrap(withoutPersist)
	tree := h.Path("uacme")
	path, err := exec.LookPath("uacme")
	if err != nil {
		h.client("uacme", nil) // says what is missing
	}
	for _, command := range []string{"new postmaster@example.org", "-h /bin/true -t EC issue mx.example.org host7.example.org"} {
		h.client("unshare", nil, "--mount", "sh", "-ec", `mount --bind "$1" /etc/ssl/certs/ca-certificates.crt; shift; exec "$@"`, "sh", h.Path("ca.pem"),
			"sh", "-c", path+" -a "+h.CA.DirectoryURL()+" -c "+tree+" -y "+command)
	}
	key, err := os.ReadFile(filepath.Join(tree, "private/mx.example.org/key.pem"))
	h.check(err)
	before, accounts := treeSum(t, tree), h.CA.Count(ca.NewAccount)
	r := h.imports("uacme", tree, "--directory", h.CA.DirectoryURL())
	if after := treeSum(t, tree); after != before || !r.Imported[0].Stored {
		t.Errorf("%+v; the tree was changed: %v", r, after != before)
	}
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != "served" || c.Keys[0].Serial != r.Imported[0].Serial {
		t.Errorf("%+v", c)
	}
	if c := h.report(report.CodeOK, "renew", "--now").Certificates[0]; c.Keys[0].Serial == r.Imported[0].Serial {
		t.Errorf("%+v", c)
	}
	deployed, err := os.ReadFile(h.Path("tls", "mx.key"))
	h.check(err)
	account, ok, err := state.New(disk.At(h.Path("state"))).Account(h.CA.DirectoryURL())
	accountKey, readErr := os.ReadFile(filepath.Join(tree, "private/key.pem"))
	if !samePublicKey(t, deployed, key) || err != nil || readErr != nil || !ok || !samePublicKey(t, []byte(account.Key), accountKey) {
		t.Errorf("another key: %v, %v, %v", ok, err, readErr)
	}
	if n := h.CA.Count(ca.NewAccount) - accounts; n > 1 { // one request finds the account by its key
		t.Errorf("%d requests for an account", n)
	}
}

// uacme keeps neither the CA nor the URL of the account. Its tree is made here as it lays it out. The next order finds the account by its key.
func TestImportUacme(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.report(report.CodeOK, "renew")
	donor := h.current()
	account, ok, err := state.New(disk.At(h.Path("state"))).Account(h.CA.DirectoryURL())
	if err != nil || !ok {
		t.Fatal(err)
	}
	tree := h.Path("uacme")
	h.check(os.MkdirAll(filepath.Join(tree, "mx.example.org"), 0o700))
	h.check(os.MkdirAll(filepath.Join(tree, "private/mx.example.org"), 0o700))
	for path, text := range map[string]string{"mx.example.org/cert.pem": string(donor.FullchainPEM()), "private/mx.example.org/key.pem": string(donor.KeyPEM()), "private/key.pem": account.Key} {
		h.check(os.WriteFile(filepath.Join(tree, path), []byte(text), 0o600))
	}
	h.check(os.RemoveAll(h.Path("state")))
	r := h.imports("uacme", tree, "--directory", h.CA.DirectoryURL())
	if notes := strings.Join(r.Imported[0].Notes, "\n"); !r.Imported[0].Stored || !strings.Contains(notes, "the CA finds it by its key") {
		t.Fatalf("%+v", r)
	}
	if c := h.report(report.CodeOK, "renew", "--now").Certificates[0]; c.Stage != "served" || c.Keys[0].SPKI != donor.SPKI() {
		t.Errorf("%+v", c)
	}
	if c := h.report(report.CodeOK, "renew", "--now").Certificates[0]; c.Keys[0].Serial == donor.Serial() {
		t.Errorf("%+v", c)
	}
	if again, ok, err := state.New(disk.At(h.Path("state"))).Account(h.CA.DirectoryURL()); err != nil || !ok || again.URL != account.URL {
		t.Errorf("the account is %q, %v; it was %q", again.URL, err, account.URL)
	}
}

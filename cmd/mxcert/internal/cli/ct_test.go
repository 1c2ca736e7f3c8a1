package cli

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/cttest"
	"mxcert/acme/ct/sct"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy/starttls"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"
)

// ctWorld is a configuration whose source is a service of the test, and a state with one certificate.
type ctWorld struct {
	t      *testing.T
	ca     *cttest.CA
	index  *cttest.Index
	config string
	dir    string
	own    *x509.Certificate
	ownPre *x509.Certificate
}

func newCTWorld(t *testing.T, more string) *ctWorld {
	w := &ctWorld{t: t, ca: cttest.NewCA(t, "CA"), index: &cttest.Index{}, dir: t.TempDir()}
	w.config = filepath.Join(w.dir, "mxcert.yaml")
	text := fmt.Sprintf(`acme: {agree_tos: true}
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53"}}
state: %s/state
certificates:
  - {name: mx, domains: [mx.example.org], deploy: [files: {combined: %s/mx.pem}], verify: {endpoints: []}}
ct:
  watch: false
  sources: [{certspotter: {url: %q}}]
%s`, w.dir, w.dir, w.index.Serve(t), more)
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	key := cttest.Key(t)
	c, pre := w.ca.Issue(t, cttest.Template(t, time.Now().Add(90*24*time.Hour), "mx.example.org"), key.Public())
	w.own, w.ownPre = c, pre
	w.index.Add(pre, c)
	store, err := disk.Open(w.dir + "/state")
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(append(inPEM(c), inPEM(w.ca.Certificate)...), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.New(store).Lineage("mx").Add(b, c.DNSNames, "https://ca.example/directory", "", time.Now()); err != nil {
		t.Fatal(err)
	}
	return w
}

func inPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// alien adds a certificate that somebody else has ordered.
func (w *ctWorld) alien(names ...string) *x509.Certificate {
	c, pre := w.ca.Issue(w.t, cttest.Template(w.t, time.Now().Add(90*24*time.Hour), names...), cttest.Key(w.t).Public())
	w.index.Add(pre, c)
	return pre
}

func (w *ctWorld) run(args ...string) (code int, out string) {
	w.t.Helper()
	var stdout, stderr strings.Builder
	code = Run(w.t.Context(), "test", append(args, "-c", w.config, "--progress", "none"), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func TestCTCheck(t *testing.T) {
	t.Parallel()
	w := newCTWorld(t, "")
	if code, out := w.run("ct", "check"); code != 0 || !strings.Contains(out, "0 unknown, 1 ours") {
		t.Errorf("%d: %s", code, out)
	}
	serial := bundle.SerialOf(w.alien("*.example.org"))
	code, out := w.run("ct", "check")
	for _, want := range []string{"unknown: serial " + serial, "*.example.org", "CA", "ct check --accept " + serial, "concerns     mx"} {
		if code != 3 || !strings.Contains(out, want) {
			t.Errorf("%d: %q is not in\n%s", code, want, out)
		}
	}
	code, out = w.run("ct", "check", "--json")
	var r ctReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 3 || r.OK || len(r.Certificates) != 2 || len(r.Sources) != 1 || r.Sources[0].Answered != 1 {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	if code, out := w.run("ct", "check", "--accept", "abcd"); code != 1 || !strings.Contains(out, "nothing is accepted") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := w.run("ct", "check", "--accept", strings.ToUpper(serial)); code != 0 || !strings.Contains(out, "1 accepted") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := w.run("ct", "check"); code != 0 || !strings.Contains(out, "0 unknown, 1 ours, 0 learned, 1 accepted") {
		t.Errorf("%d: %s", code, out)
	}
	w.index.Fail(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "down", http.StatusBadGateway) })
	if code, out := w.run("ct", "check", "--accept", "abcd"); code != 75 || !strings.Contains(out, "nothing is accepted") || !strings.Contains(out, "did not answer everything") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := w.run("ct", "check"); code != 75 || !strings.Contains(out, "answered 502") {
		t.Errorf("%d: %s", code, out)
	}
}

func TestCTOurs(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "web.pem")
	w := newCTWorld(t, "  ours: "+elsewhere+"\n")
	alien, web := w.alien("mx.example.org"), w.alien("mx.example.org")
	if err := os.WriteFile(elsewhere, inPEM(web), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(content []byte, want int, says string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "asked")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := w.run("ct", "ours", file); code != want || !strings.Contains(out, says) {
			t.Errorf("%d: %s", code, out)
		}
	}
	ask(append(inPEM(w.own), inPEM(w.ca.Certificate)...), 0, "ours: its key is that of certificate mx")
	ask(w.own.Raw, 0, "ours")
	ask(append([]byte("\xef\xbb\xbf"), append(inPEM(w.own), inPEM(w.ca.Certificate)...)...), 0, "ours") // an editor of Windows has saved it
	ask(inPEM(web), 0, "file "+elsewhere)
	ask(inPEM(alien), 3, "not ours: mxcert did not order it")
	ask([]byte("hello"), 1, "no certificate")
	ask(nil, 1, "no certificate")
	if code, out := w.run("ct", "ours", filepath.Join(w.dir, "missing")); code != 1 || !strings.Contains(out, "missing") {
		t.Errorf("%d: %s", code, out)
	}
}

// A log list that cannot be used is a fault of the configuration.
func TestLogListIsChecked(t *testing.T) {
	t.Parallel()
	w := newCTWorld(t, "  log_list: /nonexistent/log_list.json\n")
	if code, out := w.run("check"); code != 3 || !strings.Contains(out, "ct.log_list: open /nonexistent/log_list.json") {
		t.Errorf("%d: %s", code, out)
	}
}

// verify says which SCTs a certificate has, and whether their signatures are good.
func TestVerifySCTs(t *testing.T) {
	t.Parallel()
	ca, one, two := cttest.NewCA(t, "CA"), cttest.NewLog(t, "one"), cttest.NewLog(t, "two")
	now := time.Now()
	c, _ := ca.Issue(t, cttest.Template(t, now.Add(90*24*time.Hour), "mx.example.org"), cttest.Key(t).Public(), one, two)
	h := survey.Host{Facts: verdict.Facts{Handshakes: []verdict.Handshake{{Shown: &starttls.Result{Chain: []*x509.Certificate{c, ca.Certificate}}}}}}
	logs, err := sct.ParseLogs(cttest.LogList(t, cttest.Listed{Log: one}, cttest.Listed{Log: two, State: "rejected"}))
	if err != nil {
		t.Fatal(err)
	}
	list := sctsOf(h, logs, now)
	if len(list) != 2 || list[0].Log != "one" || !list[0].Checked || list[0].Error != "" || list[1].Error == "" {
		t.Errorf("%+v", list)
	}
	text := fmt.Sprint(sctLines(list))
	if !strings.Contains(text, "1: one at") || !strings.Contains(text, "the signatures are good") || !strings.Contains(text, `does not count: "two" is rejected`) {
		t.Error(text)
	}
	if text := fmt.Sprint(sctLines(sctsOf(h, nil, now))); !strings.Contains(text, "2: log ") || !strings.Contains(text, "signatures not checked") {
		t.Error(text)
	}
}

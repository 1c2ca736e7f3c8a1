package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// Each mistake or outage gives its exit code, its kind, a message that says what and where, and a next step; and the
// certificate that was in service stays there.
func TestFaultsAreToldApart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		break_  func(*host)
		code    report.Code
		stage   string // of the report's error
		kind    string
		message string // part of the message
		hint    string // part of the hint
	}{
		{"CA down", func(h *host) { h.check(h.CA.Close()) }, report.CodeTemporary, "directory", "ca-unreachable", "connection refused", "curl"},
		{"DNS down", func(h *host) { h.check(h.Primary.Close()) }, report.CodeTemporary, "dns", "dns-unreachable", h127, "running"},
		{"wrong TSIG secret", func(h *host) { h.secret("d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=") }, report.CodeFailed, "dns", "tsig", "BADSIG", "DNSUPDATE_TSIG_SECRET"},
		{"TSIG secret not base64", func(h *host) { h.secret("not base64!") }, report.CodeFailed, "dns", "dns-config", "not base64", "tsig-keygen"},
		{"TSIG secret missing", func(h *host) { h.check(os.Remove(h.Path("credentials", "tsig"))) }, report.CodeFailed, "dns", "", "credentials/tsig", ""},
		{"unknown TSIG key", func(h *host) { h.edit(`DNSUPDATE_TSIG_KEY: "mxcert."`, `DNSUPDATE_TSIG_KEY: "other."`) }, report.CodeFailed, "dns", "tsig", "BADKEY", "DNSUPDATE_TSIG_KEY"},
		{"name in no zone of ours", func(h *host) { h.edit(`"host7.example.org"`, `"host7.example.net"`) }, report.CodeFailed, "dns", "", "host7.example.net", "dig"},
		{"private CA not trusted", func(h *host) { h.edit("  ca_file:", "  # ca_file:") }, report.CodeFailed, "directory", "tls", "does not trust", "acme.ca_file"},
		{"directory of missing target", func(h *host) { h.edit("/tls/mx.crt", "/nowhere/mx.crt") }, report.CodeNotInService, "deploy", "missing-directory", "/nowhere", "install -d"},
		{"target is a symbolic link", func(h *host) {
			h.check(os.Remove(h.Path("tls", "mx.crt")))
			h.check(os.Symlink("/etc/hostname", h.Path("tls", "mx.crt")))
		}, report.CodeNotInService, "deploy", "refused", "symbolic link", "path that it points to"},
		{"unknown group", func(h *host) { h.edit("files: {", "files: {group: nosuchgroup, ") }, report.CodeNotInService, "deploy", "", "nosuchgroup", "group"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
			tt.break_(h)
			c := h.report(tt.code, "renew", "--now").Certificates[0]
			if c.Error == nil {
				t.Fatalf("no error in %+v", c)
			}
			if c.Error.Stage != tt.stage || tt.kind != "" && c.Error.Kind != tt.kind || !strings.Contains(c.Error.Message, tt.message) || !strings.Contains(c.Error.Hint, tt.hint) {
				t.Errorf("the error is %+v", c.Error)
			}
			if len(c.Keys) != 1 || c.Keys[0].Serial != serial {
				t.Errorf("the certificate is %+v, want the old one", c.Keys)
			}
			if left := h.World.TXT("_acme-challenge.mx.example.org."); len(left) > 0 && tt.name != "DNS down" {
				t.Errorf("TXT records remain: %v", left)
			}
		})
	}
}

// h127 is what every address of the lab begins with.
const h127 = "127.0.0.1:"

// check ends the test when preparing it failed.
func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) secret(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(text), 0o600))
}

func TestClosedPort(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.SMTP.Close())
	c := h.report(report.CodeNotInService, "renew").Certificates[0]
	if c.Stage != report.Deployed || c.Error.Stage != "verify" || c.Error.Kind != "connection-refused" || !strings.Contains(c.Error.Hint, "verify.endpoints") {
		t.Errorf("stage %s, error %+v", c.Stage, c.Error)
	}
	if _, err := os.Stat(h.Path("tls", "mx.key")); err != nil {
		t.Errorf("the first deployment was taken back to nothing: %v", err)
	}
}

func TestNothingServes(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != report.Deployed || len(c.Endpoints) != 0 {
		t.Errorf("%+v", c)
	}
	if out := h.run("status").stdout; !strings.Contains(out, "no endpoint configured") {
		t.Errorf("status does not say that nothing serves the certificate:\n%s", out)
	}
}

// A server that goes on with the old certificate: the deployment is taken back, and the next pass puts it in service
// without another order.
func TestServerThatDoesNotReload(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Preload: true}, lab.ConfigOptions{})
	h.edit("timeout: 30s}", "timeout: 1s}")
	h.report(report.CodeNotInService, "renew") // it has loaded nothing yet
	h.check(h.SMTP.Reload())
	first := h.report(report.CodeOK, "renew").Certificates[0]
	before, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)

	failed := h.report(report.CodeNotInService, "renew", "--now").Certificates[0]
	if failed.Error.Stage != "verify" || !strings.Contains(failed.Error.Message, "previous certificate is back") {
		t.Errorf("the error is %+v", failed.Error)
	}
	if failed.Keys[0].Serial == first.Keys[0].Serial || failed.Stage != report.Issued {
		t.Errorf("%+v", failed)
	}
	after, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	if string(before) != string(after) {
		t.Error("the old certificate is not back in its file")
	}
	orders := h.orders()
	go reloadWhenChanged(h, string(before))
	served := h.report(report.CodeOK, "renew", "--now").Certificates[0]
	if served.Keys[0].Serial != failed.Keys[0].Serial || h.orders() != orders {
		t.Errorf("the paid certificate %s was not used: %+v", failed.Keys[0].Serial, served)
	}
}

// reloadWhenChanged is the reload by an operator that mends the server.
func reloadWhenChanged(h *host, before string) {
	for {
		now, err := os.ReadFile(h.Path("tls", "mx.crt"))
		if err == nil && string(now) != before {
			_ = h.SMTP.Reload() // what it cannot load, the handshakes show
			return
		}
	}
}

// orders counts the orders that the CA has taken.
func (h *host) orders() int {
	generations, err := filepath.Glob(h.Path("state", "lineages", "mx", "2*"))
	h.check(err)
	return len(generations)
}

func TestHealing(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit(fmt.Sprintf("private_key: %q", h.Path("tls", "mx.key")), fmt.Sprintf("private_key: %q, mode: \"0640\"", h.Path("tls", "mx.key")))
	serial := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	for name, damage := range map[string]func() error{
		"overwritten": func() error { return os.WriteFile(h.Path("tls", "mx.crt"), []byte("garbage"), 0o640) },
		"deleted":     func() error { return os.Remove(h.Path("tls", "mx.key")) },
		"mode":        func() error { return os.Chmod(h.Path("tls", "mx.key"), 0o604) },
		"record lost": func() error { return os.Remove(h.Path("state", "lineages", "mx", "record.json")) },
		"record broken": func() error {
			return os.WriteFile(h.Path("state", "lineages", "mx", "record.json"), []byte("{"), 0o600)
		},
	} {
		h.check(damage())
		r := h.report(report.CodeOK, "renew").Certificates[0]
		if r.Stage != report.Served || r.Keys[0].Serial != serial {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if n := h.orders(); n != 1 {
		t.Errorf("healing cost %d orders", n-1)
	}
	info, err := os.Stat(h.Path("tls", "mx.key"))
	h.check(err)
	if info.Mode().Perm() != 0o640 {
		t.Errorf("the key has mode %o", info.Mode().Perm())
	}
}

// What a first deployment replaces is kept.
func TestDisplacedFilesAreKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte("the operator's own\n"), 0o644))
	h.report(report.CodeOK, "renew")
	kept, err := filepath.Glob(h.Path("state", "lineages", "mx", "displaced", "*-mx.crt"))
	h.check(err)
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	text, err := os.ReadFile(kept[0])
	h.check(err)
	if string(text) != "the operator's own\n" {
		t.Errorf("kept: %q", text)
	}
}

// With --json there is one document on stdout, whatever fails.
func TestFailuresAreJSONToo(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit("domains:", "domians:")
	for _, command := range []string{"renew", "status", "verify", "history"} {
		got := h.run(command, "--json")
		var r failureReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeConfig || r.Error == nil || len(r.Problems) == 0 || r.Problems[0].Line == 0 {
			t.Errorf("%s: exit code %d (%v):\n%s", command, got.code, err, got.stdout)
		}
	}
}

// A CA that hangs costs no more than --timeout, and what was begun is kept.
func TestTimeout(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	h.CA.SetWrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang })
	})
	began := time.Now()
	c := h.report(report.CodeTemporary, "renew", "--timeout", "1s").Certificates[0]
	if c.Error == nil || c.Error.Kind != "timeout" || c.Stage != report.Waiting || c.Error.Hint == "" {
		t.Errorf("%+v", c)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

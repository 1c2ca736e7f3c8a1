package pass

import (
	"os"
	"strings"
	"testing"

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
		{"wrong TSIG secret", func(h *host) { h.put("credentials/tsig", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=") }, report.CodeFailed, "dns", "tsig", "BADSIG", "DNSUPDATE_TSIG_SECRET"},
		{"TSIG secret not base64", func(h *host) { h.put("credentials/tsig", "not base64!") }, report.CodeFailed, "dns", "dns-config", "not base64", "tsig-keygen"},
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
			serial := h.pass(report.CodeOK, renew).Keys[0].Serial
			tt.break_(h)
			c := h.pass(tt.code, atOnce)
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

package wanted_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// The check finds a bad web configuration, with its line in mxcert.yaml. The daemon starts all the same.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yaml")
	config, err := configs.Parse("mxcert.yaml", fmt.Appendf(nil, "acme: {agree_tos: true}\ndns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: 192.0.2.53}}\ncertificates:\n  - name: mx\n    domains: [mx.example.org]\n    deploy: [{files: {combined: /srv/mx.pem}}]\nmetrics:\n  listen: 127.0.0.1:9743\n  web_config: %s\n", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		bad  string
	}{
		{"tls_server_config: [", "line 1"},
		{"passwords: {}", "passwords"},
		{"tls_server_config: {cert_file: missing.crt, key_file: missing.key}", "missing.crt"},
		{"", ""},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, p := range wanted.Warnings(config) {
			if strings.HasPrefix(p.Message, "metrics.web_config: ") && p.Line == 9 {
				found = p.Message
			}
		}
		if (found == "") != (tt.bad == "") || !strings.Contains(found, tt.bad) {
			t.Errorf("%q: %q", tt.text, found)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if list := wanted.Warnings(config); len(list) == 0 || !strings.Contains(list[len(list)-1].Message, "no such file") {
		t.Errorf("a missing file: %v", list)
	}
	if host, err := wanted.From(config); err != nil || !host.Metrics.On() || host.Metrics.WebConfig != file {
		t.Errorf("%+v %v", host.Metrics, err)
	}
}

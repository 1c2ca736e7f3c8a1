package setup

import (
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// TestEximTarget: the first target for Exim counts; one that is more than pairs of files is named, because its lines are others.
func TestEximTarget(t *testing.T) {
	t.Parallel()
	const head = "acme: {agree_tos: true}\ndns: {provider: rfc2136}\ncertificates:\n  - name: other\n    domains: [imap.example.org]\n    deploy: [{files: {combined: /srv/a.pem}}]\n" +
		"  - name: mx\n    domains: [mx.example.org]\n"
	for _, tt := range []struct{ what, more, path, fails string }{
		{"a pair", "    deploy: [{exim: {certificate: /srv/b.crt, private_key: /srv/b.key}}]\n", "/srv/b.crt", ""},
		{"one file", "    deploy: [{exim: {combined: /srv/b.pem}}]\n", "/srv/b.pem", ""},
		{"two types of key", "    keys: [ec256, rsa2048]\n    deploy: [{exim: {combined: \"/srv/{key}.pem\"}}]\n", "/srv/ec256.pem /srv/rsa2048.pem", ""},
		{"a directory", "    deploy: [{exim: {directory: /srv/mx}}]\n", "", "the target for Exim of mx is more than pairs"},
		{"none", "", "", "no target for Exim"},
	} {
		config, err := configs.Parse("mxcert.yaml", []byte(head+tt.more))
		if err != nil {
			t.Fatal(err)
		}
		host, _ := wanted.From(config)
		pairs, names, err := eximTarget(host)
		var paths []string
		for _, p := range pairs {
			paths = append(paths, p.Certificate)
		}
		switch {
		case tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)):
			t.Errorf("%s: %v", tt.what, err)
		case tt.fails == "" && (err != nil || strings.Join(paths, " ") != tt.path || names[0] != "mx.example.org"):
			t.Errorf("%s: %+v, %q, %v", tt.what, pairs, names, err)
		}
	}
}

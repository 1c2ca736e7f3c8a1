package wanted_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// CheckFiles says what is wrong with each file that a channel needs, at its place in the configuration.
func TestCheckFilesOfChannels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"bad.tmpl": "{{.Subjekt}}", "good.tmpl": "{{.Subject}}", "roots.pem": "none", "page": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := configs.Parse("/etc/mxcert/mxcert.yaml", []byte(good+fmt.Sprintf(`notify:
  - {name: desk, mail: {to: a@example.org, via: {smtp: relay.example, ca_file: %[1]s/roots.pem}}}
  - {name: gone, mail: {to: a@example.org, via: {smtp: relay.example, ca_file: %[1]s/gone.pem}}}
  - {name: chat, webhook: {url: "cred:chat", body: %[1]s/bad.tmpl, ca_file: %[1]s/roots.pem}}
  - {name: page, exec: %[1]s/page}
  - {name: fine, webhook: {url: "cred:chat", body: %[1]s/good.tmpl}}
  - {name: alive, ping: "cred:ping"}
`, dir)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"notify[0].mail.via.ca_file: the roots in " + dir + "/roots.pem cannot be used: it holds no PEM certificate",
		"notify[1].mail.via.ca_file: the roots in " + dir + "/gone.pem cannot be used: no such file or directory",
		"notify[2].webhook.body: the template " + dir + "/bad.tmpl cannot be used: line 1: there is no field .Subjekt",
		"notify[2].webhook.ca_file: the roots in " + dir + "/roots.pem cannot be used: it holds no PEM certificate",
		"notify[3].exec: " + dir + "/page is not executable",
	}
	list := wanted.CheckFiles(config)
	for i, p := range list {
		if i >= len(want) || !strings.HasPrefix(p.Message, want[i]) || p.Hint == "" || p.Line == 0 {
			t.Errorf("%d:%d: %s (%s)", p.Line, p.Column, p.Message, p.Hint)
		}
	}
	if len(list) != len(want) {
		t.Errorf("%d faults, not %d", len(list), len(want))
	}
}

// The next step about a secret is one that helps: a file that is there already is not put there again.
func TestSecretHints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for secret, want := range map[string]string{
		"file:" + dir + "/missing": "put the value there",
		"file:" + dir:              "chown root:mxcert FILE; chmod 0640 FILE",
		"env:MXCERT_NO_SUCH":       "set the variable where the service starts",
	} {
		config, err := configs.Parse("/mxcert.yaml", []byte("acme: {agree_tos: true}\ndns: {provider: rfc2136}\ncertificates: [{name: mx, domains: [mx.example.org], deploy: [files: {combined: /srv/mx.pem}]}]\n"+
			"notify: [{name: alive, ping: \""+secret+"\"}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		host, _ := wanted.From(config)
		err = host.Channels()[0].Pinger.Ping(t.Context(), true, "")
		if hint := report.HintOf(err); !strings.Contains(hint, want) {
			t.Errorf("%s: %v, and then %q", secret, err, hint)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/configs"
	"mxcert/hooks/notify"
)

// The examples of mxcert-notify(7) are good as they are written: the configurations load without a warning, and the template can be used.
func TestNotifyExamples(t *testing.T) {
	page, err := os.ReadFile("mxcert-notify.7.md")
	if err != nil {
		t.Fatal(err)
	}
	const host = `acme: {agree_tos: true}
dns: {provider: exec, env: {EXEC_PATH: /bin/true}}
certificates: [{name: mx, domains: [mx.example.org], deploy: [{files: {certificate: /a, private_key: /b}}]}]
`
	kinds, templates := map[string]bool{}, 0
	for i, text := range strings.Split(string(page), "```") {
		switch {
		case i%2 == 0:
		case strings.HasPrefix(text, "\nnotify:\n"):
			config, err := configs.Parse("/mxcert.yaml", []byte(host+text))
			if err != nil || len(config.Warnings(func(string, string) bool { return false })) > 0 || len(config.Notify) != 1 {
				t.Errorf("%v\n%s", err, text)
				continue
			}
			kinds[config.Notify[0].Kind] = true
			if lines := strings.Count(text, "\n") - 1; lines > 10 {
				t.Errorf("%d lines:\n%s", lines, text)
			}
		default:
			templates++
			path := filepath.Join(t.TempDir(), "chat.tmpl")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := notify.CheckTemplate(path); err != nil {
				t.Error(err)
			}
		}
	}
	if len(kinds) != 4 || templates != 1 {
		t.Errorf("the page has examples of %v, and %d templates", kinds, templates)
	}
}

// The page about everything does not deny what the program does.
func TestLimitsAreTrue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("mxcert.7.md")
	if err != nil {
		t.Fatal(err)
	}
	_, limits, _ := strings.Cut(string(page), "\n# LIMITS\n")
	limits, _, _ = strings.Cut(limits, "\n# ")
	for _, setting := range []string{"notify: []", "ct: {watch: true}", `fleet: {name: berlin, host: mx1, etcd: {endpoints: ["http://127.0.0.1:2379"]}, identity: "cred:age", recipients: [age10p4j5xm4eyrtgruex90mjpdjymdf3rdq3rwq65g27ypeva670dhse57qhx]}`} {
		name, _, _ := strings.Cut(setting, ":")
		_, err := configs.Parse("/mxcert.yaml", []byte("acme: {agree_tos: true}\ndns: {provider: rfc2136}\ncertificates: [{name: mx, domains: [mx.example.org], deploy: [files: {combined: /srv/mx.pem}]}]\n"+setting+"\n"))
		if refused := err != nil; refused != strings.Contains(limits, "**"+name+"** is refused") || !refused && strings.Contains(limits, "notification") {
			t.Errorf("%s: refused %v (%v), and the page says:\n%s", name, refused, err, limits)
		}
	}
}

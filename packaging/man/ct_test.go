package main

import (
	"os"
	"strings"
	"testing"

	"mxcert/configs"
)

// The configurations of mxcert-ct(7) load as they are written, without a warning. Its steps for certspotter are those of the hook.
func TestTransparencyExamples(t *testing.T) {
	page, err := os.ReadFile("mxcert-ct.7.md")
	if err != nil {
		t.Fatal(err)
	}
	const host = "acme: {agree_tos: true}\ndns: {provider: exec, env: {EXEC_PATH: /bin/true}}\ncertificates: [{name: mx, domains: [mx.example.org], deploy: [{files: {certificate: /a, private_key: /b}}]}]\n"
	good, steps := 0, ""
	for i, text := range strings.Split(string(page), "```") {
		switch {
		case i%2 == 1 && strings.HasPrefix(text, "\nct:\n"):
			if config, err := configs.Parse("/mxcert.yaml", []byte(host+text)); err != nil || len(config.Warnings(func(string, string) bool { return false })) > 0 {
				t.Errorf("%v\n%s", err, text)
			}
			good++
		case i%2 == 1 && strings.HasPrefix(text, "\napt install "):
			steps = text
		}
	}
	hook, err := os.ReadFile("../hooks/certspotter")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(hook)) {
		if step, found := strings.CutPrefix(line, "#   "); found && !strings.Contains(steps, strings.TrimSpace(step)) {
			t.Errorf("the page does not have the step %q of the hook:\n%s", step, steps)
		}
	}
	if good != 3 || steps == "" {
		t.Errorf("the page has %d configurations, and the steps %q", good, steps)
	}
}

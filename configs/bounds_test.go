package configs

import (
	"strings"
	"testing"
	"time"
)

// TestBounds loads large files that are as bad as can be, and wants a short answer soon.
func TestBounds(t *testing.T) {
	const size = maxFile / 4 // quadratic work shows, and the race detector has done in time
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	tests := map[string]string{
		"tabs":               fill("a:\n\tb\n"),
		"control":            fill("\x01\n"),
		"unknown keys":       fill("a:\n"),
		"long unknown key":   fill("a"),
		"one line":           "acme: {" + fill("b: 1, ") + "}",
		"brackets":           fill("["),
		"lists":              "certificates: [" + fill("[],") + "]",
		"certificates":       "certificates: [" + fill("{},") + "]",
		"names":              "certificates:\n" + fill("- name: a\n"),
		"aliases":            "certificates:\n- &a {domains: [x.y]}\n" + fill("- *a\n"),
		"resolvers":          "acme: {agree_tos: true}\ndns: {resolvers: [" + fill("192.0.2.1,") + "]}",
		"secrets":            "dns:\n  env:\n    A_B: |\n" + fill("      c\n") + "\t",
		"environment":        "dns: {env: {" + fill("a: b, ") + "}}",
		"braces":             "certificates: [{name: a, domains: [a.b], deploy: [{files: {combined: \"/" + fill("{key}") + "\"}}]}]",
		"comment characters": fill("# \n"),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := loadBytes([]byte(text))
			if err == nil {
				t.Error("no error")
			}
			if len(err.Error()) > 100_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if d := time.Since(start); d > 30*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

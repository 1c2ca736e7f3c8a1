package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

// danePage is mxcert-dane(7) as it is written.
func danePage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("mxcert-dane.7.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// terms lists what the entries of a section are about.
func terms(page, section string) (list []string) {
	_, rest, _ := strings.Cut(page, "\n# "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n# ")
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9, -]+)\n: `).FindAllStringSubmatch(rest, -1) {
		list = append(list, strings.Split(m[1], ", ")...)
	}
	slices.Sort(list)
	return list
}

// mxcert-dane(7) has every state, every mode and every finding about TLSA records, and no others.
func TestDANEPageIsComplete(t *testing.T) {
	page := danePage(t)
	for _, c := range []struct {
		section, pattern string
		files            []string
	}{
		{"STATES", `(?m)^\t\w+ +Phase = "([a-z]+)"`, sources(t, "deploy/dane/p*")},
		{"WHAT HAPPENS", `(?m)^\t\w+ +Mode = "([a-z]+)"`, sources(t, "deploy/dane/dane*")},
		{"FINDINGS", `"(tlsa-[a-z-]+)"`, slices.Concat(sources(t, "cmd/mxcert/internal/doctor/tlsa*"), sources(t, "cmd/mxcert/internal/doctor/publisher*"), sources(t, "cmd/mxcert/internal/cli/tlsa*"))},
	} {
		var want []string
		for _, file := range c.files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(c.pattern).FindAllStringSubmatch(string(code), -1) {
				want = append(want, m[1])
			}
		}
		slices.Sort(want)
		want = slices.Compact(want)
		if got := terms(page, c.section); len(want) < 4 || !slices.Equal(got, want) {
			t.Errorf("%s explains %q, and there are %q", c.section, got, want)
		}
	}
}

// Getting a validating resolver is told in the same words everywhere.
func TestDANEPageHasTheValidator(t *testing.T) {
	install, _, _ := strings.Cut(resolve.ValidatorHint, "\n")
	if page := danePage(t); !strings.Contains(page, install) || !strings.Contains(page, `resolvers: ["127.0.0.1"]`) {
		t.Errorf("mxcert-dane(7) does not say %q", install)
	}
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

// ids matches what gives a finding its id in the rooms that look at mail hosts.
var ids = []*regexp.Regexp{
	regexp.MustCompile(`finding\.New\("([a-z0-9-]+)"`),
	regexp.MustCompile(`\badd\("([a-z0-9-]+)"`),
	regexp.MustCompile(`\b(?:id|ID): +"([a-z0-9-]+)"`),
	regexp.MustCompile(`\b[kK]ind[A-Z]\w+ +(?:= |\w+ = )?= "([a-z0-9-]+)"`),
	regexp.MustCompile(`= "(sts-[a-z-]+)"`),
	regexp.MustCompile(`\bid :?= "([a-z0-9-]+)"`),
}

// mxcert-senders(7) has every finding of verify, and no other.
func TestEveryFindingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("mxcert-senders.7.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "# FINDINGS\n")
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z0-9, -]+)\n: `).FindAllStringSubmatch(list, -1) {
		for _, id := range strings.Split(match[1], ", ") {
			if documented[id] {
				t.Errorf("%s is there twice", id)
			}
			documented[id] = true
		}
	}
	produced := map[string]bool{}
	for _, pattern := range []string{"deploy/starttls", "deploy/survey", "deploy/verdict", "deploy/mtasts", "cmd/mxcert/internal/cli/verify*"} {
		for _, file := range sources(t, pattern) {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				for _, match := range id.FindAllSubmatch(code, -1) {
					produced[string(match[1])] = true
				}
			}
		}
	}
	for id := range produced {
		if !documented[id] {
			t.Errorf("mxcert-senders(7) does not say what to do about %s", id)
		}
	}
	for id := range documented {
		if !produced[id] {
			t.Errorf("mxcert-senders(7) has %s, which nothing produces", id)
		}
	}
	if len(produced) < 60 {
		t.Errorf("only %d ids are found: this test sees too little", len(produced))
	}
}

// mxcert-senders(7) and the example configuration get a resolver that validates as the hints of the program do.
func TestValidatorIsTheSameEverywhere(t *testing.T) {
	install, use, _ := strings.Cut(resolve.ValidatorHint, "\n")
	for file, words := range map[string][]string{
		"mxcert-senders.7.md":       {install, "--resolver 127.0.0.1", `resolvers: ["127.0.0.1"]`},
		"../../configs/mxcert.yaml": {install, `resolvers: ["127.0.0.1"]`},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(text), word) || word != install && !strings.Contains(use, word) {
				t.Errorf("%s, or the hint, does not have %q", file, word)
			}
		}
	}
}

// sources lists the files of Go that are no tests, in a directory or with a pattern.
func sources(t *testing.T, pattern string) []string {
	t.Helper()
	if !strings.Contains(pattern, "*") {
		pattern += "/*"
	}
	files, err := filepath.Glob("../../" + pattern + ".go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
}

//go:build ignore

package main

import (
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// assignment is NAME = "text" or NAME = 'text', as lego's descriptions have them.
var assignment = regexp.MustCompile(`^\s*([A-Z][A-Za-z0-9]*_[A-Za-z0-9_]+|Name|URL)\s*=\s*(?:"(.*)"|'(.*)'|'''(.*)''')\s*$`)

// describe reads the description that lego keeps beside a provider.
func describe(directory string) (p provider) {
	files, err := filepath.Glob(filepath.Join(directory, "*.toml"))
	check(err)
	if len(files) != 1 {
		log.Fatalf("%s has %d descriptions", directory, len(files))
	}
	text, err := os.ReadFile(files[0])
	check(err)
	section := ""
	for _, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			section = trimmed
			continue
		}
		match := assignment.FindStringSubmatch(line)
		settings := section == "[Configuration.Credentials]" || section == "[Configuration.Additional]"
		if match == nil {
			if settings && trimmed != "" && !strings.HasPrefix(trimmed, "#") && !strings.HasPrefix(trimmed, "'") {
				log.Fatalf("%s: not understood: %s", files[0], line)
			}
			continue
		}
		value := strings.ReplaceAll(match[2]+match[3]+match[4], `\"`, `"`)
		switch {
		case settings:
			p.Variables = append(p.Variables, variable{Name: match[1], Meaning: value, Credential: section == "[Configuration.Credentials]"})
		case section == "" && match[1] == "Name" && p.Name == "":
			p.Name = value
		case section == "" && match[1] == "URL" && p.URL == "":
			p.URL = value
		}
	}
	if p.Name == "" {
		log.Fatalf("%s has no name", files[0])
	}
	return p
}

// Package ansible holds the collection; its only Go is what keeps the documentation true.
package ansible

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the table anew")

type option struct {
	Description yaml.Node `yaml:"description"`
	Type        string    `yaml:"type"`
	Choices     []string  `yaml:"choices"`
	Default     yaml.Node `yaml:"default"`
}

const begin, end = "<!-- variables: go test ./packaging/ansible -update -->\n", "<!-- end of the variables -->\n"

// TestVariableTable makes the table of the README from argument_specs.yml.
func TestVariableTable(t *testing.T) {
	text, err := os.ReadFile("roles/mxcert/meta/argument_specs.yml")
	if err != nil {
		t.Fatal(err)
	}
	var specs struct {
		Specs struct {
			Main struct {
				Options yaml.Node `yaml:"options"`
			} `yaml:"main"`
		} `yaml:"argument_specs"`
	}
	if err := yaml.Unmarshal(text, &specs); err != nil {
		t.Fatal(err)
	}
	table := "| variable | type | default | meaning |\n| --- | --- | --- | --- |\n"
	options := specs.Specs.Main.Options.Content
	for i := 0; i+1 < len(options); i += 2 {
		var o option
		if err := options[i+1].Decode(&o); err != nil {
			t.Fatal(err)
		}
		kind := o.Type
		if len(o.Choices) > 0 {
			kind = strings.Join(o.Choices, ", ")
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", options[i].Value, kind, short(o.Default), words(o.Description))
	}
	if strings.Count(table, "\n") < 10 {
		t.Fatalf("hardly a table:\n%s", table)
	}
	const file = "README.md"
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	_, after, complete := strings.Cut(rest, end)
	if !ok || !complete {
		t.Fatal("the README has no place for the table")
	}
	want := before + begin + table + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(readme) {
		t.Error("the table is not that of argument_specs.yml: go test ./packaging/ansible -update")
	}
}

// short shows a default.
func short(n yaml.Node) string {
	switch n.Kind {
	case 0:
		return ""
	case yaml.ScalarNode:
		return "`" + n.Value + "`"
	case yaml.MappingNode:
		return "`{}`"
	}
	return "`[]`"
}

// words puts a description, a text or a list of texts, on one line without Ansible's markup.
func words(n yaml.Node) string {
	var parts []string
	if n.Kind == yaml.ScalarNode {
		parts = []string{n.Value}
	}
	for _, p := range n.Content {
		parts = append(parts, p.Value)
	}
	text := strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	for _, mark := range []string{"C(", "O("} {
		for {
			before, rest, found := strings.Cut(text, mark)
			if !found {
				break
			}
			inner, after, _ := strings.Cut(rest, ")")
			text = before + "`" + inner + "`" + after
		}
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

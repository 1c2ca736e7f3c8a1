package configs

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// refusal is a setting of the contract that this version does not support yet.
type refusal struct {
	path string // list indexes are left out
	when func(value *yaml.Node) bool
	what string // refused by this name; empty: the path
	hint string
}

// refusals lists the settings that the configuration knows and that are not supported yet. When you build one, delete its line.
func refusals() []refusal {
	return []refusal{
		{"state", isSection, "state: etcd", "give the path of a directory"},
	}
}

// refuse records a fault if this version does not support the setting at path, and reports whether it did.
func (l *loader) refuse(path string, value *yaml.Node) bool {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	pattern := withoutIndexes(path)
	for _, r := range refusals() {
		if r.path == pattern && r.when(value) {
			l.fault(path, r.hint, r.what+" is not supported by this version")
			return true
		}
	}
	return false
}

// unsupported reports whether this version refuses every value of a setting.
func unsupported(path string) bool {
	anything := &yaml.Node{Kind: yaml.ScalarNode, Value: "anything"}
	for _, r := range refusals() {
		if r.when(anything) && r.path == path {
			return true
		}
	}
	return false
}

// withoutIndexes turns certificates[0].name into certificates.name.
func withoutIndexes(path string) string {
	for {
		before, rest, found := strings.Cut(path, "[")
		if !found {
			return path
		}
		_, after, _ := strings.Cut(rest, "]")
		path = before + after
	}
}

func isSection(n *yaml.Node) bool { return n.Kind == yaml.MappingNode }

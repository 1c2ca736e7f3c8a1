package configs

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"mxcert/acme/finding"
)

// unknownKey records a key that the section does not have. The hint is the key that was probably meant: a similar one, else the
// section to which the key belongs.
func (l *loader) unknownKey(path string, key *yaml.Node, fields []field) {
	var names []string
	for _, f := range fields {
		if !unsupported(join(withoutIndexes(path), f.name)) {
			names = append(names, f.name)
		}
	}
	l.unknown[path] = true
	hint := suggest(key.Value, names)
	if hint == "" {
		hint = "known here: " + strings.Join(names, ", ")
	}
	if home := homes(reflect.TypeFor[Config](), "", key.Value); nearest(key.Value, names) == "" && len(home) == 1 {
		hint = fmt.Sprintf("%q belongs to %s", key.Value, home[0])
	}
	if l.src.fragment && path == "" {
		hint = "a file in conf.d can only have certificates; the rest belongs to the main file"
	}
	l.keyFault(path, key, "unknown key "+quote(key.Value), hint)
}

// homes lists the sections that have a key, as paths without list indexes.
func homes(t reflect.Type, path, key string) []string {
	var list []string
	for _, f := range fieldsOf(t) {
		inner := t.Field(f.position).Type
		if f.name == key {
			list = append(list, cmp.Or(path, "the top level"))
		}
		for inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && f.def != "-" {
			list = append(list, homes(inner, join(path, f.name), key)...)
		}
	}
	return list
}

// suggest returns a question whether one of the known words was meant. It returns "" if no word is similar.
func suggest(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// nearest returns the known word that is most like word: about one letter in three may differ, or one word may be the
// beginning of the other. It returns "" if no word is that close.
func nearest(word string, known []string) string {
	const longest = 64 // the distance takes quadratic time, and no known word is longer
	if len(word) > longest {
		return ""
	}
	best, found := 1+max(1, len(word)/3), ""
	for _, k := range known {
		a, b := strings.ToLower(strings.ReplaceAll(word, "-", "_")), strings.ReplaceAll(k, "-", "_")
		d := finding.Distance(a, b)
		if len(a) > 2 && strings.HasPrefix(b, a) || len(b) > 2 && strings.HasPrefix(a, b) {
			d = min(d, 1)
		}
		if d < best {
			best, found = d, k
		}
	}
	return found
}

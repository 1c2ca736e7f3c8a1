package configs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// TestSchemaIsFresh makes the schema from the types and their comments and compares it with the embedded one;
// go generate writes it anew.
func TestSchemaIsFresh(t *testing.T) {
	m := schemaMaker{comments: comments(t)}
	root := m.object(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "mxcert.yaml"
	root["description"] = "Configuration of mxcert. `mxcert check` checks more than this schema can say."
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", string(data)+"\n")
	if !*update && string(Schema()) != string(data)+"\n" {
		t.Error("Schema() is not schema.json")
	}
}

// comments returns the first paragraph of each field's comment in config.go, by Type.Field.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			first, _, _ := strings.Cut(f.Doc.Text(), "\n\n")
			for _, name := range f.Names {
				texts[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(first), " ")
			}
		}
		return false
	})
	return texts
}

type object = map[string]any

type schemaMaker struct{ comments map[string]string }

// required lists what a section cannot do without.
func required(section string) []string {
	return map[string][]string{"Config": {"acme"}, "ACME": {"agree_tos"}, "Certificate": {"name", "domains"}}[section]
}

func (m schemaMaker) object(t reflect.Type) object {
	properties := object{}
	for _, f := range fieldsOf(t) {
		s := m.value(t.Field(f.position).Type, f)
		s["description"] = m.comments[t.Name()+"."+t.Field(f.position).Name]
		properties[f.name] = s
	}
	out := object{"type": "object", "additionalProperties": false, "properties": properties}
	if r := required(t.Name()); r != nil {
		out["required"] = r
	}
	return out
}

func (m schemaMaker) value(t reflect.Type, f field) object {
	switch {
	case t == reflect.TypeFor[Target]():
		target := m.object(t)
		return object{"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
			"properties": object{"exim": target, "postfix": target, "dovecot": target, "files": target}}
	case t == reflect.TypeFor[[]Zone]():
		return object{"type": "object", "additionalProperties": m.object(t.Elem())}
	case t == reflect.TypeFor[Limits]():
		return object{"anyOf": []object{m.object(t), {"type": "string", "enum": []string{"", "none"}}}}
	case t == reflect.TypeFor[CTSource]():
		one := m.object(t)
		return object{"anyOf": []object{{"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "properties": object{"certspotter": one, "crtsh": one}},
			{"type": "string", "enum": ctSources()}}}
	case t == reflect.TypeFor[Publisher]():
		one := m.object(t)
		one["maxProperties"] = 1
		return object{"anyOf": []object{one, {"type": "string", "enum": append([]string{""}, publishers()[:2]...)}}}
	case t == reflect.TypeFor[Channel]():
		one := m.object(t)
		one["maxProperties"] = 3
		return one
	case t == reflect.TypeFor[Via]():
		return object{"anyOf": []object{m.object(t), {"type": "string", "enum": []string{"", viaSendmail}}}}
	case t == reflect.TypeFor[Rate]():
		return object{"type": "string", "pattern": `^$|^none$|^[0-9]+ */ *([0-9]+d)?([0-9.]+(h|m|s))*$`}
	case t == reflect.TypeFor[time.Duration]() && f.zero:
		return withDefault(object{"type": []string{"string", "integer"}, "pattern": `^0$|^[0-9]+d$|^([0-9]+d)?([0-9.]+(h|m|s|ms))+$`}, f.def)
	case t == reflect.TypeFor[time.Duration]():
		return withDefault(object{"type": "string", "pattern": `^[0-9]+d$|^([0-9]+d)?([0-9.]+(h|m|s|ms))+$`}, f.def)
	case t == reflect.TypeFor[fs.FileMode]():
		return withDefault(object{"type": []string{"string", "integer"}, "pattern": "^0o?[46][0246]0$"}, f.def)
	case t.Kind() == reflect.Struct:
		return m.object(t)
	case t.Kind() == reflect.Map:
		return object{"type": "object", "propertyNames": object{"pattern": "^[A-Z_][A-Z0-9_]*$"},
			"additionalProperties": object{"type": []string{"string", "number", "boolean"}}}
	case t.Kind() == reflect.Slice:
		return m.list(t, f)
	case t.Kind() == reflect.Bool:
		s := object{"type": "boolean"}
		if f.def != "" {
			s["default"] = f.def == "true"
		}
		return s
	case t.Kind() == reflect.Int:
		return object{"type": "integer"}
	}
	s := object{"type": "string"}
	if len(f.enum) > 0 {
		s["enum"] = append([]string{""}, f.enum...)
	}
	return withDefault(s, f.def)
}

func (m schemaMaker) list(t reflect.Type, f field) object {
	items := m.value(t.Elem(), field{})
	if len(f.enum) > 0 {
		items["enum"] = f.enum
	}
	list := object{"type": "array", "items": items}
	if f.single {
		return withDefault(object{"anyOf": []object{items, list}}, f.def)
	}
	if f.def != "" && t.Elem().Kind() == reflect.String {
		list["default"] = strings.Fields(f.def)
	}
	return list
}

func withDefault(s object, def string) object {
	if def != "" {
		s["default"] = def
	}
	return s
}

// TestSchemaAccepts validates the good configurations, and wants a fault for some of the bad ones.
func TestSchemaAccepts(t *testing.T) {
	var s object
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	if err := validate(s, decoded(t, Example()), ""); err != nil {
		t.Errorf("example: %v", err)
	}
	for name, file := range cases(t, "good") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, decoded(t, data), ""); err != nil && name != "confd" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"key_unknown", "type_list_for_section", "certificate_key_unknown", "target_two_kinds", "acme_terms_missing", "dns_timeout_without_unit", "target_mode_world_readable"} {
		data, err := os.ReadFile("testdata/bad/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, decoded(t, data), ""); err == nil {
			t.Errorf("the schema accepts bad/%s.yaml", name)
		}
	}
}

// decoded reads YAML as an editor does before it applies a schema.
func decoded(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// validate is as much of JSON schema as the schema uses.
func validate(s object, v any, path string) error {
	if list, ok := s["anyOf"].([]any); ok {
		return anyOf(list, v, path)
	}
	if err := validateType(s["type"], v, path); err != nil {
		return err
	}
	switch v := v.(type) {
	case map[string]any:
		return validateObject(s, v, path)
	case []any:
		for i, e := range v {
			if err := validate(s["items"].(object), e, at(path, i)); err != nil {
				return err
			}
		}
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s: %q does not match %s", path, v, p)
		}
		if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, any(v)) {
			return fmt.Errorf("%s: %q is not one of %v", path, v, enum)
		}
	}
	return nil
}

func anyOf(list []any, v any, path string) error {
	var err error
	for _, s := range list {
		if err = validate(s.(object), v, path); err == nil {
			return nil
		}
	}
	return err
}

func validateType(want any, v any, path string) error {
	got := map[reflect.Kind]string{reflect.Map: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer"}[reflect.ValueOf(v).Kind()]
	if v == nil {
		return nil // a section without lines
	}
	list, ok := want.([]any)
	if !ok {
		list = []any{want}
	}
	if !slices.Contains(list, any(got)) && !(got == "integer" && slices.Contains(list, any("number"))) {
		return fmt.Errorf("%s: is %s, not %v", path, got, want)
	}
	return nil
}

func validateObject(s object, v map[string]any, path string) error {
	properties, _ := s["properties"].(object)
	if most, ok := s["maxProperties"].(float64); ok && len(v) > int(most) {
		return fmt.Errorf("%s: has %d keys", path, len(v))
	}
	required, _ := s["required"].([]any)
	for _, r := range required {
		if _, ok := v[r.(string)]; !ok {
			return fmt.Errorf("%s: %v is missing", path, r)
		}
	}
	for key, value := range v {
		inner, ok := properties[key].(object)
		if !ok {
			if inner, ok = s["additionalProperties"].(object); !ok {
				return fmt.Errorf("%s: unknown key %q", path, key)
			}
		}
		if err := validate(inner, value, join(path, key)); err != nil {
			return err
		}
	}
	return nil
}

// TestSchemaDescribes wants a description for every setting.
func TestSchemaDescribes(t *testing.T) {
	var s object
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	var walk func(s object, path string)
	walk = func(s object, path string) {
		properties, _ := s["properties"].(object)
		for key, value := range properties {
			p := join(path, key)
			if text, _ := value.(object)["description"].(string); text == "" && !slices.Contains([]string{"exim", "postfix", "dovecot", "files"}, key) {
				t.Errorf("%s has no description", p)
			}
			walk(value.(object), p)
		}
		for _, inner := range []string{"items", "additionalProperties"} {
			if inner, ok := s[inner].(object); ok {
				walk(inner, path)
			}
		}
	}
	walk(s, "")
}

// TestExampleIsComplete wants every supported setting in the example, in a line or in a comment.
func TestExampleIsComplete(t *testing.T) {
	text := string(Example())
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for _, f := range fieldsOf(typ) {
			name := typ.Name() + "." + f.name
			if !regexp.MustCompile(`(?m)^[ #-]*` + f.name + `:`).MatchString(text) {
				t.Errorf("the example does not show %s", name)
			}
			inner := typ.Field(f.position).Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

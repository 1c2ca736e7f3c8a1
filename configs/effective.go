package configs

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Effective returns the configuration as one YAML document: all files together, defaults filled in, names resolved.
// References to secrets stay references; a literal secret is shown as "(secret)", which Load refuses. secret reports
// whether a variable of a DNS provider holds one; nil means that each of them may.
func (c *Config) Effective(secret func(provider, variable string) bool) ([]byte, error) {
	var text []byte
	all := encoder{newSecrets(secret)}.encodeStruct(reflect.ValueOf(c).Elem()).Content
	for i := 0; i < len(all); i += 2 {
		for n, part := range partsOf(all[i+1]) {
			data, err := yaml.Dump(mappingOf(all[i], part), yaml.WithV4Defaults(), yaml.WithLineWidth(-1), yaml.WithQuotePreference(yaml.QuoteDouble))
			if err != nil {
				return nil, fmt.Errorf("writing the effective configuration: %v", err)
			}
			if n > 0 {
				_, data, _ = bytes.Cut(data, []byte("\n")) // the key is above the first part
			}
			text = append(text, data...)
		}
	}
	return text, nil
}

// partsOf splits a long list into lists that make the same text when they are written one after another. The emitter keeps
// everything until its document ends: 120 MB for a thousand certificates.
func partsOf(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode || n.Style == yaml.FlowStyle || len(n.Content) < 2 {
		return []*yaml.Node{n}
	}
	var parts []*yaml.Node
	for element := range slices.Chunk(n.Content, 20) {
		parts = append(parts, &yaml.Node{Kind: yaml.SequenceNode, Content: element})
	}
	return parts
}

// encoder turns values into YAML.
type encoder struct{ secrets *secrets }

// encode turns a value into a YAML node. It returns nil for a list or mapping that is not set.
func (e encoder) encode(v reflect.Value, f field) *yaml.Node {
	switch value := v.Interface().(type) {
	case Target:
		return mappingOf(plain(value.Kind), e.encodeStruct(v))
	case Limits:
		if value.None {
			return plain(noLimit)
		}
		return e.encodeStruct(v)
	case CTSource:
		return e.encodeCTSource(value)
	case Publisher:
		return e.encodePublisher(value)
	case Channel:
		return e.encodeChannel(value)
	case Via:
		return e.encodeVia(value)
	case Rate:
		if value == (Rate{}) {
			return nil
		}
		return plain(value.String())
	case DNS:
		value.Env = e.shown(value.Provider, value.Env)
		return e.encodeStruct(reflect.ValueOf(value))
	case []Zone:
		return e.encodeZones(value)
	case time.Duration:
		return plain(shortDuration(value))
	case fs.FileMode:
		if value == 0 {
			return nil
		}
		return text(fmt.Sprintf("%04o", value))
	case Secret:
		return text(value.String())
	case map[string]Secret:
		return encodeEnv(value)
	case string:
		return text(value)
	case bool:
		return plain(strconv.FormatBool(value))
	case int:
		return plain(strconv.Itoa(value))
	}
	switch {
	case v.Kind() == reflect.Struct:
		return e.encodeStruct(v)
	case v.IsNil():
		return nil
	case f.single && v.Len() == 1:
		return e.encode(v.Index(0), field{})
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range v.Len() {
		list.Content = append(list.Content, e.encode(v.Index(i), field{}))
	}
	if v.Type().Elem().Kind() != reflect.Struct {
		list.Style = yaml.FlowStyle
	}
	return list
}

func (e encoder) encodeStruct(v reflect.Value) *yaml.Node {
	n := mappingOf()
	for _, f := range fieldsOf(v.Type()) {
		if value := e.encode(v.Field(f.position), f); value != nil {
			n.Content = append(n.Content, plain(f.name), value)
		}
	}
	return n
}

// shown returns the environment of a provider with its secrets hidden.
func (e encoder) shown(provider string, env map[string]Secret) map[string]Secret {
	env = maps.Clone(env)
	for name, value := range env {
		if e.secrets.holds(variable{provider, name}) {
			env[name] = Secret(value.String())
		}
	}
	return env
}

// encodeEnv writes an environment as shown has prepared it.
func encodeEnv(env map[string]Secret) *yaml.Node {
	if env == nil {
		return nil
	}
	n := mappingOf()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		n.Content = append(n.Content, text(name), text(string(env[name])))
	}
	return n
}

func mappingOf(content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: content}
}

// text returns a node for a string: quoted if YAML would read it as something else.
func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

// plain returns a node for a value of another type.
func plain(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: value}
}

// shortDuration writes 5m for what time.Duration prints as 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

package configs

import (
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"
)

// The work of one Load is bounded, because a short file can cause much of it: aliases of aliases multiply.
const (
	maxNodes = 200_000 // values, aliases expanded
	maxList  = 10_000  // elements of a list
)

// decode puts the value of node n, which is at path, into v. A fault is recorded and leaves v as it is.
func (l *loader) decode(n *yaml.Node, path string, v reflect.Value, f field) {
	n = l.resolve(n, path)
	if n == nil {
		return
	}
	switch to := v.Addr().Interface().(type) {
	case *Target:
		l.target(n, path, to)
	case *Limits:
		l.limits(n, path, to)
	case *[]Zone:
		l.zones(n, path, to)
	case *Rate:
		l.rate(n, path, to)
	case *Secret:
		l.secret(n, path, to)
	case *time.Duration:
		l.duration(n, path, to, f)
	case *CTSource:
		l.ctSource(n, path, to)
	case *Publisher:
		l.publisher(n, path, to)
	case *Channel:
		l.channel(n, path, to)
	case *Via:
		l.via(n, path, to)
	case *fs.FileMode:
		l.mode(n, path, to)
	case *string:
		l.text(n, path, to, f)
	case *bool:
		l.boolean(n, path, to)
	case *int:
		l.integer(n, path, to)
	default:
		l.collection(n, path, v, f)
	}
}

func (l *loader) collection(n *yaml.Node, path string, v reflect.Value, f field) {
	switch v.Kind() {
	case reflect.Struct:
		l.mapping(n, path, v)
	case reflect.Map:
		l.table(n, path, v)
	case reflect.Slice:
		l.list(n, path, v, f)
	}
}

// resolve follows an alias. It refuses a tag, and too many values.
func (l *loader) resolve(n *yaml.Node, path string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	l.visited++
	switch {
	case l.visited == maxNodes:
		l.faultAt(n, path, "the configuration has too many values", "write fewer values, or fewer aliases of aliases")
		return nil
	case l.visited > maxNodes:
		return nil
	case n.Style&yaml.TaggedStyle != 0:
		l.faultAt(n, path, "YAML tags (!name) are not supported", "remove it")
		return nil
	}
	return n
}

// mapping decodes a mapping into a struct.
func (l *loader) mapping(n *yaml.Node, path string, v reflect.Value) {
	fields, ok := l.fields[v.Type()]
	if !ok {
		fields = fieldsOf(v.Type())
		l.fields[v.Type()] = fields
	}
	l.entries(n, path, func(key, value *yaml.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			l.unknownKey(path, key, fields)
			return
		}
		p := join(path, key.Value)
		l.place(p, key, value)
		if !l.refuse(p, value) {
			l.decode(value, p, v.Field(fields[i].position), fields[i])
		}
	})
}

// table decodes a mapping with free keys; all such mappings hold secrets.
func (l *loader) table(n *yaml.Node, path string, v reflect.Value) {
	to := map[string]Secret{}
	l.entries(n, path, func(key, value *yaml.Node) {
		p := join(path, key.Value)
		l.place(p, key, value)
		var s Secret
		l.decode(value, p, reflect.ValueOf(&s).Elem(), field{})
		to[key.Value] = s
	})
	v.Set(reflect.ValueOf(to))
}

// entries calls do for each key of a mapping that is plain text and occurs for the first time.
func (l *loader) entries(n *yaml.Node, path string, do func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		if n.Tag != "!!null" { // a section whose lines are all commented out
			l.wrongType(n, path, "must be a section with keys")
		}
		return
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		first, twice := seen[key.Value]
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			l.keyFault(path, key, "unsupported merge key <<", "repeat the settings, or use an alias for a whole value")
		case key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0:
			l.keyFault(path, key, "key that is not plain text", "write a name and a colon")
		case twice:
			l.keyFault(path, key, "duplicate key "+quote(key.Value), fmt.Sprintf("it is already set in line %d; remove one of the two", first.Line))
		default:
			seen[key.Value] = key
			do(key, value)
		}
	}
}

// list decodes a list, or a single value if the field allows it.
func (l *loader) list(n *yaml.Node, path string, v reflect.Value, f field) {
	elements := n.Content
	switch {
	case f.single && n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		if n.Value == "" {
			return
		}
		elements = []*yaml.Node{n}
	case f.single && n.Kind == yaml.MappingNode && v.Type().Elem().Kind() == reflect.Struct:
		elements = []*yaml.Node{n}
	case f.single && n.Tag == "!!null" && v.Type().Elem().Kind() == reflect.Struct:
		return // a section whose lines are all commented out
	case n.Kind != yaml.SequenceNode:
		l.wrongType(n, path, "must be a list")
		return
	case len(elements) > maxList:
		l.bad(path, "write fewer; certificates can be split over several files in conf.d", "%d elements; a list has at most %d", len(elements), maxList)
		return
	}
	first := 0
	if path == "certificates" {
		first = l.first
	}
	list := reflect.MakeSlice(v.Type(), len(elements), len(elements))
	for i, e := range elements {
		p := path
		if n.Kind == yaml.SequenceNode {
			p = at(path, first+i)
			l.place(p, nil, e)
		}
		if list.Index(i).Kind() == reflect.Struct {
			setDefaults(list.Index(i))
		}
		l.decode(e, p, list.Index(i), field{enum: f.enum, element: true})
	}
	v.Set(list)
}

// place remembers the position of the setting at path.
func (l *loader) place(path string, key, value *yaml.Node) {
	p := place{src: l.src, line: value.Line, col: value.Column}
	if key != nil {
		p.kline, p.kcol = key.Line, key.Column
	}
	l.index.places[path] = p
}

// faultAt records a problem at a node of the file that is being decoded.
func (l *loader) faultAt(n *yaml.Node, path, message, hint string) {
	p := l.src.problem(n.Line, n.Column)
	p.Path, p.Message, p.Hint = path, message, hint
	l.add(p)
}

// keyFault records a problem at a key of the section at path.
func (l *loader) keyFault(path string, key *yaml.Node, message, hint string) {
	if path != "" {
		message += " in " + path
	}
	l.faultAt(key, join(path, printable(key.Value)), message, hint)
}

package configs

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field describes one setting: a field of a struct in config.go and its tags.
//
//	yaml:"name"         the key; "-": not a setting
//	yaml:"name,single"  a list that may be written as one value
//	yaml:"name,zero"    a duration that may be 0
//	default:"value"     a list is separated by spaces; "-": no defaults inside it either
//	enum:"a b c"        the values allowed
type field struct {
	name     string
	position int
	single   bool
	zero     bool
	element  bool // not a field, but an element of its list
	def      string
	enum     []string
}

// fieldsOf lists the settings of a struct in order.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, option, _ := strings.Cut(tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		list = append(list, field{
			name:     name,
			position: i,
			single:   option == "single",
			zero:     option == "zero",
			def:      tag.Get("default"),
			enum:     strings.Fields(tag.Get("enum")),
		})
	}
	return list
}

// setDefaults fills a zero struct with the defaults of its fields.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		to := v.Field(f.position)
		switch {
		case f.def == "-":
		case to.Kind() == reflect.Struct:
			setDefaults(to)
		case f.def != "":
			setDefault(to, f.def)
		}
	}
}

// setDefault parses a default, by the same rules as a value in a file. A default that does not parse stays zero;
// a test compares all of them.
func setDefault(to reflect.Value, def string) {
	switch p := to.Addr().Interface().(type) {
	case *string:
		*p = def
	case *bool:
		*p = def == "true"
	case *[]string:
		*p = strings.Fields(def)
	case *[]int:
		for _, s := range strings.Fields(def) {
			n, _ := strconv.Atoi(s)
			*p = append(*p, n)
		}
	case *time.Duration:
		*p, _ = parseDuration(def)
	}
}

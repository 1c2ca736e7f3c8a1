package deploy

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// mapText is the text of an SNI map: for each name, the file to use. Exim reads it by lsearch (name: value), Postfix compiles it (name
// value). Lines that are not mxcert's stay as they are.
type mapText struct {
	entries []entry
	postfix bool
}

// entry is a line together with the lines that continue it. name is "" for comments and empty lines.
type entry struct {
	name, value, text string
}

// anyName is the name that lsearch* uses if no other name matches.
const anyName = "*"

func parseMap(text string, postfix bool) mapText {
	m := mapText{postfix: postfix}
	for _, line := range strings.SplitAfter(text, "\n") {
		last := len(m.entries) - 1
		switch {
		case line == "":
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
			m.entries = append(m.entries, entry{text: line})
		case (line[0] == ' ' || line[0] == '\t') && last >= 0 && m.entries[last].name != "":
			m.entries[last].text += line
			m.entries[last].value += " " + strings.TrimSpace(line)
		default:
			name, value := m.split(strings.TrimSpace(line))
			m.entries = append(m.entries, entry{name: strings.ToLower(name), value: value, text: line})
		}
	}
	return m
}

// split separates a line into its name and its value.
func (m mapText) split(line string) (name, value string) {
	ends := ": \t"
	if m.postfix {
		ends = " \t"
	}
	i := strings.IndexAny(line, ends)
	if i < 0 {
		return line, ""
	}
	name, value = line[:i], strings.TrimSpace(line[i:])
	if !m.postfix {
		value = strings.TrimSpace(strings.TrimPrefix(value, ":"))
	}
	return name, value
}

// format writes a line.
func (m mapText) format(name, value string) string {
	if m.postfix {
		return name + " " + value + "\n"
	}
	return name + ": " + value + "\n"
}

// value joins the paths for one name: the files that the server loads together.
func (m mapText) value(paths []string) string {
	if m.postfix {
		return strings.Join(paths, ", ")
	}
	return strings.Join(paths, " : ")
}

// paths splits a value into its paths.
func (m mapText) paths(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool {
		return r == ' ' || r == '\t' || m.postfix && r == ',' || !m.postfix && r == ':'
	})
}

func (m mapText) get(name string) (value string, ok bool) {
	i := slices.IndexFunc(m.entries, func(e entry) bool { return e.name == name })
	if i < 0 {
		return "", false
	}
	return m.entries[i].value, true
}

// set changes a line, removes it (nil), or adds it before the line for any name, because some kinds of lookup need that line to be last.
func (m *mapText) set(name string, value *string) {
	i := slices.IndexFunc(m.entries, func(e entry) bool { return e.name == name })
	switch {
	case i >= 0 && value == nil:
		m.entries = slices.Delete(m.entries, i, i+1)
	case value == nil:
	case i >= 0:
		m.entries[i].value, m.entries[i].text = *value, m.format(name, *value)
	default:
		at := len(m.entries)
		if j := slices.IndexFunc(m.entries, func(e entry) bool { return e.name == anyName }); j >= 0 {
			at = j
		}
		if at > 0 && !strings.HasSuffix(m.entries[at-1].text, "\n") {
			m.entries[at-1].text += "\n"
		}
		m.entries = slices.Insert(m.entries, at, entry{name: name, value: *value, text: m.format(name, *value)})
	}
}

func (m mapText) String() string {
	var text strings.Builder
	for _, e := range m.entries {
		text.WriteString(e.text)
	}
	return text.String()
}

// mapEntries are the lines that a certificate wants in a map.
type mapEntries struct {
	values    map[string]string // by name
	any       string            // for any other name; "": no such line (Postfix has none)
	preferred bool              // set any even if another certificate has it
	own       func(path string) bool
	still     map[string]bool // names that the deployed certificate has, also if they are no longer wanted: their lines stay
}

// changes returns the lines to set (nil: to remove), by name.
func (e mapEntries) changes(m mapText) map[string]*string {
	changes := map[string]*string{}
	ours := func(value string) bool {
		paths := m.paths(value)
		return len(paths) > 0 && !slices.ContainsFunc(paths, func(p string) bool { return !e.own(p) })
	}
	for name, value := range e.values {
		if has, ok := m.get(name); !ok || has != value {
			changes[name] = &value
		}
	}
	for _, line := range m.entries {
		if _, wanted := e.values[line.name]; !wanted && !e.still[line.name] && line.name != "" && line.name != anyName && ours(line.value) {
			changes[line.name] = nil // the certificate had this name earlier
		}
	}
	if has, ok := m.get(anyName); e.any != "" && has != e.any && (!ok || e.preferred || ours(has)) {
		changes[anyName] = &e.any
	}
	return changes
}

// apply makes the changes, and returns those that undo them.
func (m *mapText) apply(changes map[string]*string) (back map[string]*string) {
	back = map[string]*string{}
	for _, name := range sortedNames(changes) {
		back[name] = nil
		if value, ok := m.get(name); ok {
			back[name] = &value
		}
		m.set(name, changes[name])
	}
	return back
}

// sortedNames orders names so that anyName comes last.
func sortedNames(changes map[string]*string) []string {
	var names []string
	for name := range changes {
		if name != anyName {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if _, ok := changes[anyName]; ok {
		names = append(names, anyName)
	}
	return names
}

// mapName returns how a map writes a name in lower case. Postfix writes a wildcard as .example.org.
func mapName(name string, postfix bool) string {
	if rest, wildcard := strings.CutPrefix(name, "*"); wildcard && postfix {
		return rest
	}
	return name
}

// versionsOf matches the paths of the combined files that a template with {serial} makes.
func versionsOf(template string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path.Clean(template)), regexp.QuoteMeta(serialMark), "[0-9a-f]+") + "$")
}

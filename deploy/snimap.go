package deploy

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// lines is the text of an SNI map: for each name the file to use. Exim looks it up by lsearch (name: value), Postfix
// compiles it (name value). Lines that are not ours stay as they are.
type lines struct {
	entries []entry
	postfix bool
}

// entry is a line with the lines that continue it; name is "" for comments and empty lines.
type entry struct {
	name, value, text string
}

// anyName is the name that lsearch* falls back to.
const anyName = "*"

func parseLines(text string, postfix bool) lines {
	l := lines{postfix: postfix}
	for _, line := range strings.SplitAfter(text, "\n") {
		last := len(l.entries) - 1
		switch {
		case line == "":
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
			l.entries = append(l.entries, entry{text: line})
		case (line[0] == ' ' || line[0] == '\t') && last >= 0 && l.entries[last].name != "":
			l.entries[last].text += line
			l.entries[last].value += " " + strings.TrimSpace(line)
		default:
			name, value := l.split(strings.TrimSpace(line))
			l.entries = append(l.entries, entry{name: strings.ToLower(name), value: value, text: line})
		}
	}
	return l
}

// split cuts a line behind its name.
func (l lines) split(line string) (name, value string) {
	ends := ": \t"
	if l.postfix {
		ends = " \t"
	}
	i := strings.IndexAny(line, ends)
	if i < 0 {
		return line, ""
	}
	name, value = line[:i], strings.TrimSpace(line[i:])
	if !l.postfix {
		value = strings.TrimSpace(strings.TrimPrefix(value, ":"))
	}
	return name, value
}

// format writes a line.
func (l lines) format(name, value string) string {
	if l.postfix {
		return name + " " + value + "\n"
	}
	return name + ": " + value + "\n"
}

// value is joined from the paths of one name: the files that the server loads together.
func (l lines) value(paths []string) string {
	if l.postfix {
		return strings.Join(paths, ", ")
	}
	return strings.Join(paths, " : ")
}

// paths is value taken apart.
func (l lines) paths(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool {
		return r == ' ' || r == '\t' || l.postfix && r == ',' || !l.postfix && r == ':'
	})
}

func (l lines) get(name string) (value string, ok bool) {
	i := slices.IndexFunc(l.entries, func(e entry) bool { return e.name == name })
	if i < 0 {
		return "", false
	}
	return l.entries[i].value, true
}

// set changes a line, removes it (nil), or adds it before that for any name, which some kinds of lookup need to be last.
func (l *lines) set(name string, value *string) {
	i := slices.IndexFunc(l.entries, func(e entry) bool { return e.name == name })
	switch {
	case i >= 0 && value == nil:
		l.entries = slices.Delete(l.entries, i, i+1)
	case value == nil:
	case i >= 0:
		l.entries[i].value, l.entries[i].text = *value, l.format(name, *value)
	default:
		at := len(l.entries)
		if j := slices.IndexFunc(l.entries, func(e entry) bool { return e.name == anyName }); j >= 0 {
			at = j
		}
		if at > 0 && !strings.HasSuffix(l.entries[at-1].text, "\n") {
			l.entries[at-1].text += "\n"
		}
		l.entries = slices.Insert(l.entries, at, entry{name: name, value: *value, text: l.format(name, *value)})
	}
}

func (l lines) String() string {
	var text strings.Builder
	for _, e := range l.entries {
		text.WriteString(e.text)
	}
	return text.String()
}

// wishes are the lines that a certificate wants.
type wishes struct {
	values    map[string]string // by name
	any       string            // for any other name; "": not offered (Postfix has none)
	preferred bool              // any is to be set even if another certificate has it
	own       func(path string) bool
}

// changes tells which lines have to be set (nil: removed), in a fixed order.
func (w wishes) changes(l lines) map[string]*string {
	changes := map[string]*string{}
	ours := func(value string) bool {
		paths := l.paths(value)
		return len(paths) > 0 && !slices.ContainsFunc(paths, func(p string) bool { return !w.own(p) })
	}
	for name, value := range w.values {
		if has, ok := l.get(name); !ok || has != value {
			changes[name] = &value
		}
	}
	for _, e := range l.entries {
		if _, wanted := w.values[e.name]; !wanted && e.name != "" && e.name != anyName && ours(e.value) {
			changes[e.name] = nil // the certificate had this name once
		}
	}
	if has, ok := l.get(anyName); w.any != "" && has != w.any && (!ok || w.preferred || ours(has)) {
		changes[anyName] = &w.any
	}
	return changes
}

// apply makes changes and gives those that take them back.
func (l *lines) apply(changes map[string]*string) (back map[string]*string) {
	back = map[string]*string{}
	for _, name := range sortedNames(changes) {
		back[name] = nil
		if value, ok := l.get(name); ok {
			back[name] = &value
		}
		l.set(name, changes[name])
	}
	return back
}

// sortedNames orders names so that the one for any other comes last.
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

// mapName is how a map names what a certificate names: Postfix writes a wildcard as .example.org.
func mapName(name string, postfix bool) string {
	if rest, wildcard := strings.CutPrefix(name, "*"); wildcard && postfix {
		return rest
	}
	return strings.ToLower(name)
}

// versionsOf matches the paths of the combined files that a template with {serial} makes.
func versionsOf(template string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path.Clean(template)), regexp.QuoteMeta(serialMark), "[0-9a-f]+") + "$")
}

package setup

import (
	"regexp"
	"slices"
	"strings"
)

// Macros of Debian's configuration (README.Debian of exim4-config, "TLS"), and the values that apply without them.
const (
	enableMacro      = "MAIN_TLS_ENABLE"
	certificateMacro = "MAIN_TLS_CERTIFICATE"
	keyMacro         = "MAIN_TLS_PRIVATEKEY"
	combinedMacro    = "MAIN_TLS_CERTKEY" // one file with both; it takes precedence over the two

	usualCertificate = "/etc/exim4/exim.crt"
	usualKey         = "/etc/exim4/exim.key"
)

// macroFile is a file of macros and what changes in it.
type macroFile struct {
	lines          []string
	earlier        string // the text that Exim reads before this file
	removed, added []string
}

// editMacros changes a file of macros so that Exim reads the certificate and the key. earlier is the text that Exim reads
// before the file.
func editMacros(text, earlier, certificate, key string) *macroFile {
	f := &macroFile{earlier: earlier}
	if text != "" {
		f.lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	if !defines(earlier, enableMacro) && !defines(text, enableMacro) { // any value will do
		f.add(enableMacro + " = yes")
	}
	if certificate == key {
		f.set(combinedMacro, certificate, "")
		return f
	}
	f.remove(f.definitions(combinedMacro))
	f.set(certificateMacro, certificate, usualCertificate)
	f.set(keyMacro, key, usualKey)
	return f
}

func (f *macroFile) text() string {
	if len(f.lines) == 0 {
		return ""
	}
	return strings.Join(f.lines, "\n") + "\n"
}

// definition matches a line that defines or redefines a macro (Exim specification, chapter 6.4).
var definition = regexp.MustCompile(`^\s*([A-Z]\w*)\s*==?\s*(.*?)\s*$`) //nolint:gochecknoglobals // a constant

func defines(text, name string) bool {
	return slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		m := definition.FindStringSubmatch(line)
		return m != nil && m[1] == name
	})
}

// span is a definition in the lines of a file: a half-open range, because a backslash continues a line.
type span struct {
	from, to    int
	value       string
	conditional bool // it is inside .ifdef and .endif
}

// definitions lists the places where the file defines a macro.
func (f *macroFile) definitions(name string) (list []span) {
	depth := 0
	for i := 0; i < len(f.lines); i++ {
		line := strings.TrimSpace(f.lines[i])
		switch {
		case strings.HasPrefix(line, ".if"):
			depth++
		case strings.HasPrefix(line, ".endif"):
			depth--
		}
		m := definition.FindStringSubmatch(line)
		if m == nil || m[1] != name {
			continue
		}
		s := span{from: i, value: m[2], conditional: depth > 0}
		for ; i+1 < len(f.lines) && strings.HasSuffix(strings.TrimRight(f.lines[i], " \t"), `\`); i++ {
			s.value = "" // a value that mxcert sets never needs two lines
		}
		s.to = i + 1
		list = append(list, s)
	}
	return list
}

// set gives a macro a value. Exim refuses to define a macro twice, so set replaces a definition in the file, and overrides one
// that is in another file or under a condition.
func (f *macroFile) set(name, value, usual string) {
	found := f.definitions(name)
	overridden := defines(f.earlier, name) || slices.ContainsFunc(found, func(s span) bool { return s.conditional })
	switch line := name + " = " + value; {
	case len(found) == 0 && !overridden && value == usual, len(found) == 1 && !overridden && found[0].value == value:
	case overridden:
		f.add(".ifdef "+name, name+" == "+value, ".else", line, ".endif")
	case len(found) == 0:
		f.add(line)
	default:
		f.remove(found[1:])
		f.removed = append(f.removed, f.lines[found[0].from:found[0].to]...)
		f.lines = slices.Replace(f.lines, found[0].from, found[0].to, line)
		f.added = append(f.added, line)
	}
}

func (f *macroFile) add(lines ...string) {
	f.lines, f.added = append(f.lines, lines...), append(f.added, lines...)
}

// remove removes definitions, except those under a condition.
func (f *macroFile) remove(definitions []span) {
	for _, s := range slices.Backward(definitions) {
		if !s.conditional {
			f.removed = append(f.removed, f.lines[s.from:s.to]...)
			f.lines = slices.Delete(f.lines, s.from, s.to)
		}
	}
}

func (f *macroFile) changed() bool { return len(f.removed)+len(f.added) > 0 }

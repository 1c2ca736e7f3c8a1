package discover

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

// macroEdit changes files of macros so that Exim reads a certificate and its key.
type macroEdit struct {
	own     *eximFile   // takes new macros
	earlier []*eximFile // Exim reads them before own
	later   []*eximFile // Exim reads them after own
}

// apply makes the change. key is "" if the certificate's file holds the key, too.
func (m macroEdit) apply(certificate, key string) {
	if !m.anywhere(enableMacro) { // any value will do
		m.own.add(enableMacro + " = yes")
	}
	if key == "" {
		m.set(combinedMacro, certificate, "")
		return
	}
	for _, f := range m.all() {
		f.remove(f.definitions(combinedMacro))
	}
	m.set(certificateMacro, certificate, usualCertificate)
	m.set(keyMacro, key, usualKey)
}

func (m macroEdit) all() []*eximFile {
	return append(append(slices.Clone(m.earlier), m.own), m.later...)
}

func (m macroEdit) anywhere(name string) bool {
	return slices.ContainsFunc(m.all(), func(f *eximFile) bool { return len(f.definitions(name)) > 0 })
}

// set gives a macro a value. Exim refuses to define a macro twice: "already defined". So set replaces a definition in the own file or in a
// later one. It overrides a definition that is in an earlier file or under a condition.
func (m macroEdit) set(name, value, usual string) {
	if m.setLater(name, value) {
		return
	}
	f := m.own
	found := f.definitions(name)
	overridden := slices.ContainsFunc(m.earlier, func(f *eximFile) bool { return len(f.definitions(name)) > 0 }) ||
		slices.ContainsFunc(found, func(d definition) bool { return d.conditional })
	switch line := name + " = " + value; {
	case len(found) == 0 && !overridden && value == usual, len(found) == 1 && !overridden && found[0].value == value:
	case overridden:
		f.override(name, value)
	case len(found) == 0:
		f.add(line)
	default:
		f.remove(found[1:])
		f.replace(found[0], line)
	}
}

// override sets a macro that may be defined before, and is the last to do so.
func (f *eximFile) override(name, value string) {
	lines := []string{".ifdef " + name, name + " == " + value, ".else", name + " = " + value, ".endif"}
	if !strings.Contains("\n"+f.text(), "\n"+strings.Join(lines, "\n")+"\n") {
		f.add(lines...)
	}
}

// setLater replaces a definition that a later file makes unconditionally: it would win, or Exim would refuse it.
func (m macroEdit) setLater(name, value string) (done bool) {
	for _, f := range slices.Backward(m.later) {
		found := slices.DeleteFunc(f.definitions(name), func(d definition) bool { return d.conditional })
		if len(found) == 0 {
			continue
		}
		if last := found[len(found)-1]; last.value != value {
			f.replace(last, name+" "+last.operator+" "+value)
		}
		return true
	}
	return false
}

// eximFile is a file of Exim's configuration and what changes in it.
type eximFile struct {
	path   string
	exists bool
	old    string // its text as it was found
	lines  []string
	hunks  []hunk
}

// hunk is lines that take the place of others.
type hunk struct {
	removed, added []string
	top            bool // the added lines come before all others
}

func newEximFile(path, text string, exists bool) *eximFile {
	f := &eximFile{path: path, exists: exists, old: text}
	if text != "" {
		f.lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	return f
}

func (f *eximFile) text() string {
	if len(f.lines) == 0 {
		return ""
	}
	return strings.Join(f.lines, "\n") + "\n"
}

func (f *eximFile) changed() bool { return len(f.hunks) > 0 }

func (f *eximFile) add(lines ...string) {
	if n := len(f.lines); n > 0 && continues(f.lines[n-1]) {
		f.lines = append(f.lines, "") // the last line would go on with the first new one
	}
	f.lines, f.hunks = append(f.lines, lines...), append(f.hunks, hunk{added: lines})
}

// continues reports whether the next line belongs to a line, too.
func continues(line string) bool { return strings.HasSuffix(strings.TrimRight(line, " \t"), `\`) }

func (f *eximFile) insert(lines ...string) {
	f.lines, f.hunks = append(slices.Clone(lines), f.lines...), append(f.hunks, hunk{added: lines, top: true})
}

func (f *eximFile) replace(d definition, lines ...string) {
	f.hunks = append(f.hunks, hunk{removed: slices.Clone(f.lines[d.from:d.to]), added: lines})
	f.lines = slices.Replace(f.lines, d.from, d.to, lines...)
}

// remove removes definitions, except those under a condition.
func (f *eximFile) remove(definitions []definition) {
	for _, d := range slices.Backward(definitions) {
		if !d.conditional {
			f.hunks = append(f.hunks, hunk{removed: slices.Clone(f.lines[d.from:d.to])})
			f.lines = slices.Delete(f.lines, d.from, d.to)
		}
	}
}

//nolint:gochecknoglobals // constants
var (
	// macroLine matches a line that defines or redefines a macro (Exim specification, chapter 6.4).
	macroLine = regexp.MustCompile(`^\s*([A-Z]\w*)\s*(==?)\s*(.*?)\s*$`)
	// optionLine matches a line of the main section that sets a certificate or a key.
	optionLine = regexp.MustCompile(`^\s*(?:hide\s+)?(tls_certificate|tls_privatekey)\s*(=)\s*(.*?)\s*$`)
)

// definition is where a file defines a macro or sets an option: a half-open range of lines, because a backslash continues a line.
type definition struct {
	from, to        int
	operator, value string
	conditional     bool // it is inside .ifdef and .endif
}

// definitions lists the places where the file defines a macro.
func (f *eximFile) definitions(name string) []definition { return f.find(macroLine, name) }

// options lists the places where the file sets an option of the main section.
func (f *eximFile) options(name string) []definition { return f.find(optionLine, name) }

func (f *eximFile) find(pattern *regexp.Regexp, name string) (list []definition) {
	depth := 0
	for i := 0; i < len(f.lines); i++ {
		line := strings.TrimSpace(f.lines[i])
		switch {
		case strings.HasPrefix(line, ".if"):
			depth++
		case strings.HasPrefix(line, ".endif"):
			depth--
		case pattern == optionLine && strings.HasPrefix(line, "begin "):
			return list
		}
		d := definition{from: i, conditional: depth > 0}
		for ; i+1 < len(f.lines) && continues(f.lines[i]); i++ {
			d.operator = "continued"
		}
		m := pattern.FindStringSubmatch(line)
		if m == nil || m[1] != name {
			continue
		}
		if d.to, d.value = i+1, m[3]; d.operator != "" {
			d.value = "" // a value that mxcert sets never needs two lines
		}
		d.operator = m[2]
		list = append(list, d)
	}
	return list
}

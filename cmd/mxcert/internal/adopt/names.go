package adopt

import (
	"fmt"
	"slices"
	"strings"

	"mxcert/acme/issued"
	"mxcert/acme/state"
)

// longestName is how long a name may be in the configuration.
const longestName = 64

// naming gives names to sets of DNS names: the same set always gets the same name, and two sets never share one.
type naming struct {
	store      *state.Book
	configured []Configured
	given      []Configured // by this import
}

// of returns the name for a set of DNS names: that of the configuration, or that under which mxcert has stored them already, or a new one
// made from the first of the wishes that has something to use.
func (n *naming) of(names []string, wishes ...string) (name string) {
	for _, c := range slices.Concat(n.configured, n.given) {
		if c.fits(names) {
			return c.Name
		}
	}
	base := lineageName(wishes...)
	name = base
	for i := 2; n.taken(name, names); i++ {
		number := fmt.Sprintf("-%d", i)
		name = base[:min(len(base), longestName-len(number))] + number
	}
	n.given = append(n.given, Configured{Name: name, Names: names})
	return name
}

// fits reports whether a certificate for these DNS names is one that the configuration wants: nothing but optional names is missing.
func (c Configured) fits(names []string) bool {
	return issued.SameNames(c.Names, slices.Concat(names, c.Optional))
}

// taken reports whether a name stands for other DNS names: in the configuration, in this import, or in what mxcert has stored.
func (n *naming) taken(name string, names []string) bool {
	if slices.ContainsFunc(slices.Concat(n.configured, n.given), func(c Configured) bool { return c.Name == name }) {
		return true
	}
	record, _, err := n.store.Lineage(name).Look()
	if err != nil {
		return true // something is there
	}
	for _, slot := range record.Keys {
		if slot.Current == "" {
			continue
		}
		if g, err := n.store.Lineage(name).Generation(slot.Current); err != nil || !issued.SameNames(g.Names, names) {
			return true
		}
	}
	return false
}

// related returns the first certificate of the configuration that has some of the names, but not exactly these.
func (n *naming) related(names []string) (Configured, bool) {
	i := slices.IndexFunc(n.configured, func(c Configured) bool {
		return slices.ContainsFunc(c.Names, func(name string) bool { return slices.Contains(names, name) })
	})
	if i < 0 {
		return Configured{}, false
	}
	return n.configured[i], true
}

// lineageName makes a name that the configuration accepts, from the first of the names that has a letter or digit it can use. A wildcard
// gets the word, so that it differs from its domain: *.example.org, or lego's _.example.org, is wildcard.example.org.
func lineageName(names ...string) string {
	for _, name := range names {
		for _, star := range []string{"*.", "_."} {
			if domain, ok := strings.CutPrefix(name, star); ok {
				name = "wildcard." + domain
			}
		}
		name = strings.Map(nameRune, name)
		if name = strings.TrimLeft(name[:min(len(name), longestName)], ".-_"); name != "" {
			return name
		}
	}
	return "imported"
}

// nameRune returns the character that stands for r in a name.
func nameRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
		return r
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	}
	return '-'
}

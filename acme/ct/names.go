package ct

import (
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"mxcert/acme/state"
)

// Question is what a source is asked: about one name, or about all names below it, too. Wildcards that cover the name count.
type Question struct {
	Name  string
	Below bool
}

// String returns the question as a word, such as ".example.org" with all names below.
func (q Question) String() string {
	if q.Below {
		return "." + q.Name
	}
	return q.Name
}

// of lists the names that a question is about.
func (q Question) of(names Names) (list []string) {
	if _, ours := names[q.Name]; ours {
		list = append(list, q.Name)
	}
	if !q.Below {
		return list
	}
	for name := range names {
		if plain := trimWild(name); name != q.Name && (plain == q.Name || strings.HasSuffix(plain, "."+q.Name)) {
			list = append(list, name)
		}
	}
	return list
}

// Round returns how long a source needs to be asked about all of the names once, by its pace.
func Round(s Source, names Names) (wait time.Duration) {
	for _, q := range Questions(slices.Collect(maps.Keys(names))) {
		wait += s.Pace(q)
	}
	return wait
}

// few is how many names of one registered domain are asked about one by one. Of more, one question about all of the domain takes less.
const few = 3

// Questions returns what has to be asked to learn about all of the names. A wildcard needs everything below its parent.
func Questions(names []string) []Question {
	wide := map[string]bool{}
	groups := map[string][]string{}
	for _, name := range plain(names) {
		if parent, wild := strings.CutPrefix(name, "*."); wild {
			wide[parent] = true
		} else if name != "" {
			groups[registered(name)] = append(groups[registered(name)], name)
		}
	}
	for _, group := range groups {
		if left := outside(group, wide); len(left) > few {
			wide[common(left)] = true
		}
	}
	var list []Question
	for _, name := range slices.Sorted(maps.Keys(wide)) {
		if len(outside([]string{name}, without(wide, name))) > 0 {
			list = append(list, Question{Name: name, Below: true})
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(groups)) {
		for _, name := range outside(groups[domain], wide) {
			list = append(list, Question{Name: name})
		}
	}
	return list
}

// registered returns the domain that somebody has registered, or the name itself if it is none of the public DNS.
func registered(name string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return domain
	}
	return name
}

// outside returns the names that are at or below none of the domains.
func outside(names []string, domains map[string]bool) (left []string) {
	for _, name := range names {
		above, inside := name, false
		for above != "" && !inside {
			inside = domains[above]
			_, above, _ = strings.Cut(above, ".")
		}
		if !inside {
			left = append(left, name)
		}
	}
	return left
}

func without(set map[string]bool, name string) map[string]bool {
	set = maps.Clone(set)
	delete(set, name)
	return set
}

// common returns the longest name at or above all names, which share a registered domain.
func common(names []string) string {
	above := names[0]
	for _, name := range names[1:] {
		for name != above && !strings.HasSuffix(name, "."+above) {
			_, above, _ = strings.Cut(above, ".")
		}
	}
	return above
}

// Names are our names, each with the certificates that have it.
type Names map[string][]string

// Add adds names of a certificate.
func (n Names) Add(certificate string, names []string) {
	for _, name := range plain(names) {
		if !slices.Contains(n[name], certificate) {
			n[name] = append(n[name], certificate)
		}
	}
}

// FromState adds the names of the current certificates: looks at MX records may have found some that the configuration does not have.
func (n Names) FromState(book *state.Book, certificates []string) {
	for _, certificate := range certificates {
		lineage := book.Lineage(certificate)
		record, _, err := lineage.Look()
		if err != nil {
			continue // the configuration's names are there
		}
		for _, slot := range record.Keys {
			if g, err := lineage.Generation(slot.Current); err == nil {
				n.Add(certificate, g.Names)
			}
		}
	}
}

// Owners lists the certificates that are valid for a name for which the entry is valid, too. A wildcard is valid for the names directly below
// its parent (RFC 9525 section 6.3).
func (n Names) Owners(e Entry) (certificates []string) {
	for _, other := range e.Names {
		for _, name := range n.like(other) {
			certificates = append(certificates, n[name]...)
		}
	}
	slices.Sort(certificates)
	return slices.Compact(certificates)
}

// Shared lists those names of an entry that are ours, too.
func (n Names) Shared(e Entry) (shared []string) {
	for _, other := range e.Names {
		if len(n.like(other)) > 0 {
			shared = append(shared, other)
		}
	}
	return shared
}

// like lists our names that a certificate for the other name could stand in for: the name itself, the wildcard that covers it, and what a
// wildcard covers. Only for a wildcard are all names looked at: hosts may have thousands, and certificates hundreds.
func (n Names) like(other string) (names []string) {
	if len(n[other]) > 0 {
		names = append(names, other)
	}
	if strings.HasPrefix(other, "*.") {
		for name := range n {
			if name != other && covers(other, name) {
				names = append(names, name)
			}
		}
	} else if _, above, found := strings.Cut(other, "."); found && len(n["*."+above]) > 0 {
		names = append(names, "*."+above)
	}
	return names
}

// covers reports whether a wildcard is valid for a name.
func covers(wildcard, name string) bool {
	parent, wild := strings.CutPrefix(wildcard, "*.")
	_, above, found := strings.Cut(name, ".")
	return wild && found && above == parent
}

// trimWild returns the parent of a wildcard, or the name itself.
func trimWild(name string) string { return strings.TrimPrefix(name, "*.") }

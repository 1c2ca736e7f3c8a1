package state

import (
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// others is the file of what the other hosts of a fleet want.
type others struct {
	Version int         `json:"version"`
	Names   []OtherName `json:"names"`
}

// WantedBy begins the reason of such a name.
const WantedBy = "wanted by "

// OtherName is a name that only other hosts of a fleet want for a certificate.
type OtherName struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // "wanted by HOST"
}

const othersFile = "others.json"

// Others reads which names only other hosts of the fleet want, as they were last known. There are none if that is not known.
func (l *Lineage) Others() []OtherName {
	var known others
	if l.book.read(l.key(othersFile), &known) != nil {
		return nil
	}
	names := slices.DeleteFunc(known.Names, func(o OtherName) bool { return !isHostName(strings.TrimPrefix(o.Name, "*.")) })
	names = names[:min(len(names), mostNames)]
	for i := range names { // root reads what the service's user can write
		names[i].Reason = finding.Quote(names[i].Reason, finding.MostQuoted)
	}
	return names
}

// SaveOthers stores which names only other hosts want, durably.
func (l *Lineage) SaveOthers(names []OtherName) error {
	if len(names) == 0 {
		return l.book.store.Remove(l.key(othersFile))
	}
	return l.book.write(l.key(othersFile), others{Version: version, Names: names})
}

// OthersFile returns where that is stored; "" for a store without files.
func (l *Lineage) OthersFile() string { return l.book.store.Path(l.key(othersFile)) }

// Taken says where a generation comes from that another host of the fleet has ordered.
type Taken struct {
	Host      string // that ordered it
	Names     []string
	Found     map[string]string // those of Names that this host's configuration does not have, with their reasons
	Directory string            // URL of the CA's directory
	Order     string            // URL
	Created   time.Time         // by the clock of that host
}

// AddTaken is [Lineage.Add] for a checked bundle that another host has ordered. It sorts by when it arrived here: clocks of hosts differ.
func (l *Lineage) AddTaken(b *bundle.Bundle, t Taken, at time.Time) (Generation, error) {
	g := describe(b, uniqueID(at), at)
	g.Names, g.Found, g.Directory, g.Order, g.Host = t.Names, t.Found, t.Directory, t.Order, t.Host
	if !t.Created.IsZero() {
		g.Created = t.Created.UTC()
	}
	return g, l.add(b, g)
}

package dane

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// model is the judge of the simulated world. It knows nothing of plans, phases and memories: only which records servers gave, which keys
// addresses served, which private keys are stored, and what follows from that for senders.
type model struct {
	given  map[[2]string]modelSet // by server and name
	cached []modelSet
	keys   map[string]*simKey // served, by address
	zone   map[string][]string
	alien  map[string]bool // records that are somebody else's
	limit  int             // records at a name, besides those of others; 0: not judged
	faults []string
}

type modelSet struct {
	name    string
	records []string
	ttl     time.Duration
	until   time.Duration // when no sender can have it any more
}

func newModel() *model {
	return &model{given: map[[2]string]modelSet{}, keys: map[string]*simKey{}, zone: map[string][]string{}, alien: map[string]bool{}}
}

func (m *model) fault(now time.Duration, format string, args ...any) {
	if len(m.faults) < 5 {
		m.faults = append(m.faults, fmt.Sprintf("%v: ", now)+fmt.Sprintf(format, args...))
	}
}

// gives says that a server gives a set from now on. Caches keep the one before for its TTL, and some for twice as long.
func (m *model) gives(now time.Duration, server, name string, records []string, ttl time.Duration) {
	at := [2]string{server, name}
	if before, ok := m.given[at]; ok {
		if slices.Equal(before.records, records) && before.ttl == ttl {
			return
		}
		before.until = now + 2*before.ttl
		m.cached = append(m.cached, before)
	}
	m.given[at] = modelSet{name: name, records: slices.Clone(records), ttl: ttl}
	for address, k := range m.keys {
		m.judge(now, m.given[at], address, k)
	}
}

// serves says that an address serves a key from now on.
func (m *model) serves(now time.Duration, address string, k *simKey) {
	m.cached = slices.DeleteFunc(m.cached, func(s modelSet) bool { return s.until <= now })
	if m.keys[address] == k {
		return
	}
	m.keys[address] = k
	if k == nil {
		delete(m.keys, address)
		return
	}
	for _, s := range m.given {
		m.judge(now, s, address, k)
	}
	for _, s := range m.cached {
		m.judge(now, s, address, k)
	}
}

// judge is I4: a key that is served is in every set that a sender may have.
func (m *model) judge(now time.Duration, s modelSet, address string, k *simKey) {
	if len(s.records) == 0 || slices.Contains(s.records, "3 1 1 "+k.spki) {
		return
	}
	m.fault(now, "I4: %s serves %.6s, and a sender may have %s of %s", address, k.spki, short(s.records), s.name)
}

// holds says what the primary of a zone has from now on.
func (m *model) holds(now time.Duration, name string, records []string) {
	aliens := 0
	for _, r := range m.zone[name] {
		if m.alien[r] && !slices.Contains(records, r) {
			m.fault(now, "somebody else's record %s was removed", short([]string{r}))
		}
	}
	for _, r := range records {
		if m.alien[r] {
			aliens++
		}
	}
	if m.limit > 0 && len(records)-aliens > m.limit {
		m.fault(now, "%d records at %s, more than %d: %s", len(records)-aliens, name, m.limit, short(records))
	}
	m.zone[name] = slices.Clone(records)
}

// loses says that a private key is not stored any more.
func (m *model) loses(now time.Duration, spki string) {
	for name, records := range m.zone {
		if slices.Contains(records, "3 1 1 "+spki) {
			m.fault(now, "the key %.6s was lost, and its record is at %s", spki, name)
		}
	}
}

func short(records []string) string {
	var list []string
	for _, r := range records {
		list = append(list, fmt.Sprintf("%.12s", r))
	}
	return "{" + strings.Join(list, ", ") + "}"
}

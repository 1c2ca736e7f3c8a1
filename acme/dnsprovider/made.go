package dnsprovider

// progress is what a Solver has done about a record.
type progress int

const (
	foreign  progress = iota // nothing: an earlier process created it, as the journal says
	planned                  // nothing yet
	tried                    // it may exist
	accepted                 // the provider has created it
)

// made remembers the records of a Solver from Present until they are removed.
type made map[string]progress

func (m made) plan(records []TXT) {
	for _, r := range records {
		if m.of(r) == foreign {
			m.set(r, planned)
		}
	}
}

func (m made) of(r TXT) progress     { return m[m.key(r)] }
func (m made) set(r TXT, p progress) { m[m.key(r)] = p }
func (m made) forget(r TXT)          { delete(m, m.key(r)) }
func (m made) key(r TXT) string      { return r.Name + " " + r.Value }

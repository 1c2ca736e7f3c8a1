package dnsprovider

// progress is what a Solver has done about a record.
type progress int

const (
	foreign progress = iota // nothing: it was made by an earlier process, as the journal says
	planned                 // nothing yet
	tried                   // it may be there
	made
)

// ledger remembers the records of a Solver from Present until they are removed.
type ledger map[string]progress

func (l ledger) plan(records []Record) {
	for _, r := range records {
		if l.of(r) == foreign {
			l.set(r, planned)
		}
	}
}

func (l ledger) of(r Record) progress     { return l[l.key(r)] }
func (l ledger) set(r Record, p progress) { l[l.key(r)] = p }
func (l ledger) forget(r Record)          { delete(l, l.key(r)) }
func (l ledger) key(r Record) string      { return r.Name + " " + r.Value }

package state

const stapleFile = "ocsp.json"

// Staples reads what is remembered about the OCSP responses of the lineage's certificates. All of it can be fetched again.
func (l *Lineage) Staples(v any) error { return l.book.read(l.key(stapleFile), v) }

// SaveStaples stores that, durably. Its version must be [Version].
func (l *Lineage) SaveStaples(v any) error { return l.book.write(l.key(stapleFile), v) }

// StapleFile returns the path of what is remembered about the OCSP responses; "" for a store without files.
func (l *Lineage) StapleFile() string { return l.book.store.Path(l.key(stapleFile)) }

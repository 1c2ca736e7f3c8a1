package state

const sendersFile = "senders.json"

// Senders reads what senders met when the daemon last looked.
func (l *Lineage) Senders(v any) error { return l.book.read(l.key(sendersFile), v) }

// SaveSenders stores what senders met. Its version must be [Version].
func (l *Lineage) SaveSenders(v any) error { return l.book.write(l.key(sendersFile), v) }

// SendersFile returns the path of what senders met; "" for a store without files.
func (l *Lineage) SendersFile() string { return l.book.store.Path(l.key(sendersFile)) }

// Version is written into every record.
const Version = version

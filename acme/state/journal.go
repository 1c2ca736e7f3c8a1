package state

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Entry is one batch of TXT records that are about to be created, or may exist. It is stored before the first record is created
// and removed after the last is gone.
type Entry struct {
	Version  int       `json:"version"`
	Lineage  string    `json:"lineage"`
	Provider string    `json:"provider"` // name of the DNS provider, to clean up by
	Records  []TXT     `json:"records"`
	Created  time.Time `json:"created"`
	key      string
}

// TXT is one record of an Entry: the values that a provider needs to remove it.
type TXT struct {
	Domain  string `json:"domain"` // identifier of the authorization
	Name    string `json:"name"`   // where the record is, after CNAMEs, fully qualified
	Zone    string `json:"zone"`   // zone that holds it, fully qualified
	Value   string `json:"value"`
	Token   string `json:"token"`
	KeyAuth string `json:"key_auth"`
}

const journal = "journal"

// journaled returns the lineage to which an entry with this name belongs. The name of a lineage may contain dots; the
// unique part and the ending never do.
func journaled(name string) (lineage string, ok bool) {
	stem, isJSON := strings.CutSuffix(name, ".json")
	cut := strings.LastIndexByte(stem, '.')
	if !isJSON || cut <= 0 {
		return "", false
	}
	return stem[:cut], true
}

// JournalLineages names the lineages that have entries in the journal, configured or not.
func (b *Book) JournalLineages() (lineages []string, err error) {
	names, err := b.store.List(journal)
	for _, name := range names {
		if lineage, ok := journaled(name); ok && !slices.Contains(lineages, lineage) {
			lineages = append(lineages, lineage)
		}
	}
	return lineages, err
}

// Note stores an entry durably and returns the function that forgets it.
func (l *Lineage) Note(entry Entry) (forget func() error, err error) {
	entry.Version, entry.Lineage = version, l.name
	entry.key = journal + "/" + l.name + "." + uniqueID(entry.Created) + ".json"
	if err := l.book.write(entry.key, entry); err != nil {
		return nil, err
	}
	return func() error { return l.Forget(entry) }, nil
}

// Journal lists the entries that an earlier run has left, oldest first. It removes damaged ones: their content is lost, and the
// error names each of them.
func (l *Lineage) Journal() ([]Entry, error) {
	names, err := l.book.store.List(journal)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	var problems []error
	for _, name := range names {
		if lineage, ok := journaled(name); !ok || lineage != l.name {
			continue
		}
		entry, err := l.book.readEntry(journal + "/" + name)
		if err != nil {
			problems = append(problems, err)
			if errors.Is(err, ErrDamaged) {
				problems = append(problems, l.book.store.Remove(journal+"/"+name))
			}
			continue
		}
		entries = append(entries, entry)
	}
	return entries, errors.Join(problems...)
}

// readEntry reads an entry whose every record can be found again.
func (b *Book) readEntry(key string) (Entry, error) {
	entry := Entry{key: key}
	if err := b.read(key, &entry); err != nil {
		return Entry{}, err
	}
	lost := func(r TXT) bool { return r.Name == "" || r.Zone == "" || r.Value == "" }
	if len(entry.Records) == 0 || slices.ContainsFunc(entry.Records, lost) {
		return Entry{}, b.failed("read", key, ErrDamaged)
	}
	return entry, nil
}

// Forget removes an entry, after its records are gone.
func (l *Lineage) Forget(entry Entry) error { return l.book.store.Remove(entry.key) }

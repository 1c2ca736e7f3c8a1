package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Entry is one batch of TXT records that is about to be made, or may have been. It is stored before the first record
// is made and removed after the last is gone.
type Entry struct {
	Version  int       `json:"version"`
	Lineage  string    `json:"lineage"`
	Provider string    `json:"provider"` // name of the DNS provider, to clean up by
	Records  []TXT     `json:"records"`
	Created  time.Time `json:"created"`
	path     string
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

// JournalLineages names the lineages that have entries in the journal, also those that no configuration names any more.
func (d *Dir) JournalLineages() ([]string, error) {
	files, err := os.ReadDir(filepath.Join(d.path, "journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, file := range files {
		stem, isJSON := strings.CutSuffix(file.Name(), ".json")
		if cut := strings.LastIndexByte(stem, '.'); isJSON && cut > 0 && !slices.Contains(names, stem[:cut]) {
			names = append(names, stem[:cut])
		}
	}
	return names, failed("read", filepath.Join(d.path, "journal"), err)
}

// Note stores an entry durably and gives the function that forgets it.
func (l *Lineage) Note(entry Entry) (forget func() error, err error) {
	entry.Version, entry.Lineage = version, l.name
	entry.path = filepath.Join(l.dir.path, "journal", l.name+"."+uniqueID(entry.Created)+".json")
	if err := writeJSON(entry.path, entry); err != nil {
		return nil, err
	}
	return func() error { return l.Forget(entry) }, nil
}

// Journal lists the entries that an earlier run left behind, oldest first. Damaged ones are removed: what they said
// is lost, and each names its file in the error that comes along.
func (l *Lineage) Journal() ([]Entry, error) {
	files, err := os.ReadDir(filepath.Join(l.dir.path, "journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("read", filepath.Join(l.dir.path, "journal"), err)
	}
	var entries []Entry
	var problems []error
	for _, file := range files {
		path := filepath.Join(l.dir.path, "journal", file.Name())
		// The name of a lineage may contain dots; the unique part and the ending never do.
		stem, isJSON := strings.CutSuffix(file.Name(), ".json")
		if cut := strings.LastIndexByte(stem, '.'); !isJSON || cut < 0 || stem[:cut] != l.name {
			continue
		}
		entry, err := readEntry(path)
		if err != nil {
			problems = append(problems, err)
			if errors.Is(err, ErrDamaged) {
				problems = append(problems, removeFile(path))
			}
			continue
		}
		entries = append(entries, entry)
	}
	return entries, errors.Join(problems...)
}

// readEntry reads an entry whose every record can be found again.
func readEntry(path string) (Entry, error) {
	entry := Entry{path: path}
	if err := readJSON(path, &entry); err != nil {
		return Entry{}, err
	}
	lost := func(r TXT) bool { return r.Name == "" || r.Zone == "" || r.Value == "" }
	if len(entry.Records) == 0 || slices.ContainsFunc(entry.Records, lost) {
		return Entry{}, failed("read", path, ErrDamaged)
	}
	return entry, nil
}

// Forget removes an entry, after its records are gone.
func (l *Lineage) Forget(entry Entry) error { return removeFile(entry.path) }

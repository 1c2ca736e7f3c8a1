package state

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// Entry is one batch of TXT records that are about to be created, or may exist. It is stored before the first record is created
// and removed after the last is gone.
type Entry struct {
	Version  int    `json:"version"`
	Lineage  string `json:"lineage"`
	Provider string `json:"provider"` // name of the DNS provider, to clean up by
	// Account is the zone whose account at the provider makes the records; "" for the account of all other names.
	Account string    `json:"account,omitempty"`
	Records []TXT     `json:"records"`
	Created time.Time `json:"created"`
	key     string
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
	lineage = stem[:cut]
	return lineage, lineage != "." && fs.ValidPath(lineage)
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

// Note stores an entry durably and returns the function that forgets it. It refuses an entry that Journal would refuse.
func (l *Lineage) Note(entry Entry) (forget func() error, err error) {
	entry.Version, entry.Lineage = version, l.name
	entry.key = journal + "/" + l.name + "." + uniqueID(entry.Created) + ".json"
	if err := entry.check(); err != nil {
		return nil, l.book.failed("write", entry.key, err)
	}
	if err := l.book.write(entry.key, entry); err != nil {
		return nil, err
	}
	return func() error { return l.Forget(entry) }, nil
}

// maxEntries is how many entries of the journal, the oldest, are read at most; the next pass reads the others. A killed run leaves a few,
// but another user may make files in any number.
const maxEntries = 100

// Journal lists the entries that an earlier run has left, oldest first. It removes damaged ones: their content is lost. It leaves
// those that mxcert would not write for a person to look at. The error names each of both.
func (l *Lineage) Journal() ([]Entry, error) {
	names, err := l.book.store.List(journal)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		lineage, ok := journaled(name)
		return !ok || lineage != l.name
	})
	var entries []Entry
	var problems []error
	for _, name := range names[:min(len(names), maxEntries)] {
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
	if err := entry.check(); err != nil {
		return Entry{}, b.failed("use", key, fmt.Errorf("%w; %w", err, errForged))
	}
	return entry, nil
}

// errForged is part of the cause if an entry is none that mxcert writes.
var errForged = errors.New("mxcert does not write such an entry: remove the file")

// check returns why mxcert does not write such an entry. What it says goes to the DNS provider, which may be a program that root
// runs: so it has only the characters of host names and of base64url.
func (e Entry) check() error {
	if !isBase64URL(e.Provider) {
		return fmt.Errorf("%s is not the name of a DNS provider", finding.Quoted(e.Provider, mostQuoted))
	}
	if e.Account != "" && !isHostName(e.Account) {
		return fmt.Errorf("%s, for an account of %s, is not a host name", finding.Quoted(e.Account, mostQuoted), e.Provider)
	}
	for _, r := range e.Records {
		for _, name := range []string{r.Domain, r.Name, r.Zone} {
			if !isHostName(name) {
				return fmt.Errorf("%s, for a TXT record of %s, is not a host name", finding.Quoted(name, mostQuoted), finding.Quoted(r.Domain, mostQuoted))
			}
		}
		if !strings.HasSuffix(strings.ToLower("."+r.Name), strings.ToLower("."+r.Zone)) {
			return fmt.Errorf("the TXT record %s is not in the zone %s", r.Name, r.Zone)
		}
		token, digest, _ := strings.Cut(r.KeyAuth, ".") // RFC 8555 section 8.1
		for _, text := range []string{r.Value, r.Token, token, digest} {
			if !isBase64URL(text) {
				return fmt.Errorf("%s, for the TXT record %s, is not base64url", finding.Quoted(text, mostQuoted), r.Name)
			}
		}
	}
	return nil
}

// mostQuoted limits what an error quotes of an entry, in bytes; mostText limits a value, a token, or a half of a key authorization.
const mostQuoted, mostText = 80, 255

// isBase64URL reports whether a text is short and has only the characters of base64url; it may be empty.
func isBase64URL(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return len(text) <= mostText && strings.Trim(text, alphabet) == ""
}

// isHostName reports whether a name, fully qualified or not, has only letters, digits, hyphens and the underscore of labels such as
// _acme-challenge. It allows more than host names may have (RFC 1123 section 2.1), because a CNAME may lead to any name.
func isHostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || !isBase64URL(label) {
			return false
		}
	}
	return len(name) <= 253 && name[0] != '-' // to a program, that would be an option
}

// Forget removes an entry, after its records are gone.
func (l *Lineage) Forget(entry Entry) error { return l.book.store.Remove(entry.key) }

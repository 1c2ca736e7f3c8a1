package state

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// maxFindings limits what Inspect reports.
const maxFindings = 50

// Inspect looks at everything that is stored, and changes nothing. It reports records that are damaged, that a later mxcert
// wrote or that were set aside, and what the store itself has to say (see [Housekeeper]); the first fifty findings, by their
// subject. The error means that the store cannot be looked at; fs.ErrNotExist that there is no store yet.
func (b *Book) Inspect() ([]finding.Finding, error) {
	var found []finding.Finding
	if keeper, ok := b.store.(Housekeeper); ok {
		var err error
		if found, err = keeper.Inspect(); err != nil {
			return nil, err
		}
	}
	for _, f := range b.inspect("") {
		known := func(other finding.Finding) bool { return other.Subject == f.Subject && other.ID == f.ID }
		if !slices.ContainsFunc(found, known) {
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b finding.Finding) int { return strings.Compare(a.Subject, b.Subject) })
	return found[:min(len(found), maxFindings)], nil
}

// inspect looks at what is below a folder.
func (b *Book) inspect(folder string) (found []finding.Finding) {
	names, err := b.store.List(folder)
	if err != nil {
		return []finding.Finding{finding.New("state-unreadable", finding.Error, "it cannot be read: %v", bare(err)).About(b.name(folder)).Next(hint(err))}
	}
	for _, name := range names {
		if len(found) > maxFindings {
			break
		}
		key := path.Join(folder, name)
		switch {
		case folder == "lineages" && strings.HasSuffix(name, "/"): // a certificate may have any name
			found = append(found, b.inspect(key)...)
		case strings.Contains(name, damagedSuffix):
			found = append(found, finding.New("state-set-aside", finding.Warning, "it was damaged and set aside").About(b.name(key)).
				Next("check whether you need anything from it, and remove it"))
		case isRecord(key):
			found = append(found, b.inspectRecord(key)...)
		case path.Base(folder) == nextKeys && path.Ext(name) == ".pem":
			found = append(found, b.inspectNext(key)...)
		case strings.HasSuffix(name, "/"):
			found = append(found, b.inspect(key)...)
		}
	}
	return found
}

// inspectRecord reads a record as its reader would.
func (b *Book) inspectRecord(key string) []finding.Finding {
	var anything map[string]any
	err := b.read(key, &anything)
	if err == nil && path.Base(path.Dir(key)) == journal {
		_, err = b.readEntry(key)
	}
	f := finding.New("state-record", finding.Error, "%v", bare(err)).About(b.name(key)).Next(hint(err))
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist): // it has just gone
		return nil
	case errors.Is(err, ErrDamaged):
		f.Severity = finding.Warning
		f.Hint = "the next pass makes it again from what else is known, or asks for it"
	}
	if path.Base(key) == tlsaFile && f.Severity == finding.Warning {
		f.Hint = "the next pass looks at DNS again, and keeps the file; TLSA records that mxcert has added stay until you run mxcert tlsa publish NAME --adopt"
	}
	return []finding.Finding{f}
}

// inspectNext reads a stored next key as a pass would.
func (b *Book) inspectNext(key string) []finding.Finding {
	text, err := b.store.Read(key)
	if err == nil {
		_, err = bundle.ParseKey(text)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []finding.Finding{finding.New("state-next-key", finding.Warning, "the next private key cannot be read: %v", bare(err)).About(b.name(key)).
		Next("if TLSA records name this key, restore the file from a backup; otherwise remove it, and the next pass makes another key")}
}

// isRecord reports whether a key is that of a record. It leaves out daemon.json, which is written again and again.
func isRecord(key string) bool {
	switch path.Base(key) {
	case accountFile, "usage.json", recordFile, metaFile, namesFile, sendersFile, tlsaFile:
		return true
	}
	in := path.Base(path.Dir(key))
	return path.Ext(key) == ".json" && (in == "orders" || in == journal)
}

// bare returns an error without the place, which is named beside it.
func bare(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err
	}
	return err
}

// hint returns what the error itself advises.
func hint(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint()
	}
	return ""
}

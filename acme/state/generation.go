package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Generation describes one issued certificate. Its files never change after it exists; only a lost
// description is made again.
type Generation struct {
	Version   int            `json:"version"`
	ID        string         `json:"id"`    // name of its directory; sorts by time of issue
	Names     []string       `json:"names"` // the names in the order; the certificate may have more
	Key       bundle.KeyType `json:"key"`
	Serial    string         `json:"serial"`
	NotBefore time.Time      `json:"not_before"`
	NotAfter  time.Time      `json:"not_after"`
	Issuer    string         `json:"issuer"`
	SPKI      string         `json:"spki_sha256"`
	Directory string         `json:"directory"`       // URL of the CA's directory
	Order     string         `json:"order,omitempty"` // URL of the order it came from
	Created   time.Time      `json:"created"`

	Found map[string]string `json:"found,omitempty"` // those of Names that looks at DNS have found, or other hosts want, with their reasons
	Host  string            `json:"host,omitempty"`  // of the fleet, that ordered it; "" if this host did
}

const metaFile = "meta.json"

// UnknownCA is the Directory of a generation whose description was lost: its certificate does not say it.
const UnknownCA = "unknown"

// member is the content of one file of a generation.
type member struct {
	name    string
	content []byte
}

// stagedPrefix starts the names under which generations are made.
const stagedPrefix = ".new-"

// Add stores a checked bundle as a new generation, durably, and returns its description. The generation appears under its
// name only when it is complete.
func (l *Lineage) Add(b *bundle.Bundle, names []string, directory, order string, at time.Time) (Generation, error) {
	return l.AddFound(b, names, nil, directory, order, at)
}

// AddFound is [Lineage.Add] for an order with names that looks at DNS have found: found has their reasons.
func (l *Lineage) AddFound(b *bundle.Bundle, names []string, found map[string]string, directory, order string, at time.Time) (Generation, error) {
	g := describe(b, uniqueID(at), at)
	g.Names, g.Found, g.Directory, g.Order = names, found, directory, order
	if err := l.add(b, g); err != nil {
		return Generation{}, err
	}
	return g, nil
}

// add stores a described bundle.
func (l *Lineage) add(b *bundle.Bundle, g Generation) error {
	final, staged := l.generationKey(g.ID), l.key(stagedPrefix+g.ID)
	err := l.stage(staged, b, g)
	if err == nil {
		err = l.book.store.Rename(staged, final)
	}
	if err != nil {
		_ = l.book.store.Remove(staged) // if it stays, Prune removes it
	}
	return l.book.renamed("store", final, err)
}

// describe returns what a certificate itself says, and when it was stored.
func describe(b *bundle.Bundle, id string, at time.Time) Generation {
	leaf := b.Leaf()
	return Generation{
		Version: version, ID: id, Names: leaf.DNSNames, Key: b.KeyType(), Serial: b.Serial(),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Issuer: leaf.Issuer.CommonName, SPKI: b.SPKI(),
		Directory: UnknownCA, Created: at.UTC(),
	}
}

// stage makes a generation under a name that readers ignore.
func (l *Lineage) stage(staged string, b *bundle.Bundle, g Generation) error {
	for _, m := range []member{
		{"privkey.pem", b.KeyPEM()}, {"fullchain.pem", b.FullchainPEM()}, {"cert.pem", b.LeafPEM()}, {"chain.pem", b.ChainPEM()},
	} {
		if err := l.book.store.Replace(path.Join(staged, m.name), m.content); err != nil {
			return err
		}
	}
	return l.book.write(path.Join(staged, metaFile), g)
}

// Bundle reads the bundle of a generation and proves it again: disks and people change files.
func (l *Lineage) Bundle(id string) (*bundle.Bundle, error) {
	chain, err := l.book.store.Read(l.generationKey(id, "fullchain.pem"))
	if err != nil {
		return nil, err
	}
	key, err := l.book.store.Read(l.generationKey(id, "privkey.pem"))
	if err != nil {
		return nil, err
	}
	b, err := bundle.Parse(chain, key)
	return b, l.book.failed("use", l.generationKey(id), err)
}

// Folder returns where the files of the lineage are on this host; "" for a store without files.
func (l *Lineage) Folder() string { return l.book.store.Path(l.key()) }

// Directory returns where the files of a generation are on this host; "" for a store without files.
func (l *Lineage) Directory(id string) string { return l.book.store.Path(l.generationKey(id)) }

// Generation reads the description of one generation. If it is missing or damaged, the certificate says what it can: then the
// directory is UnknownCA, and the order is not known.
func (l *Lineage) Generation(id string) (Generation, error) {
	if g, ok := l.justRead.LoadAndDelete(id); ok {
		return g.(Generation), nil
	}
	g, _, err := l.generation(id)
	return g, err
}

// generation also reports whether the description is lost.
func (l *Lineage) generation(id string) (g Generation, lost bool, err error) {
	key := l.generationKey(id, metaFile)
	err = l.book.read(key, &g)
	if err == nil && g.ID != path.Base(id) {
		err = l.book.failed("read", key, ErrDamaged)
	}
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return g, false, err
	}
	at, ok := momentOf(path.Base(id))
	if !ok {
		return Generation{}, true, err
	}
	b, bundleErr := l.Bundle(id)
	if bundleErr != nil {
		return Generation{}, true, err
	}
	return describe(b, path.Base(id), at), true, nil
}

// lostDescriptions lists the current generations whose description is missing or damaged, as their certificates describe them.
func (l *Lineage) lostDescriptions(record Record) (list []Generation) {
	l.justRead.Clear()
	for _, keyType := range slices.Sorted(maps.Keys(record.Keys)) {
		id := record.Keys[keyType].Current
		g, lost, err := l.generation(id)
		switch {
		case err != nil:
		case lost:
			list = append(list, g)
		default:
			l.justRead.Store(id, g) // whoever reads the record wants it next
		}
	}
	return list
}

// generationKey returns the folder of a generation, or one of its members. An ID from a damaged record cannot lead elsewhere.
func (l *Lineage) generationKey(id string, member ...string) string {
	name := path.Base(id)
	if name == "." || !fs.ValidPath(name) {
		name = "-" // no generation has this name
	}
	return l.key(append([]string{name}, member...)...)
}

// maxGenerations is how many generations, the newest, are read at most. Prune leaves far fewer; but another user may make folders in any
// number, and root's commands read them.
const maxGenerations = 100

// Generations lists the readable ones of the newest generations, oldest first, without those that a crash left unfinished.
func (l *Lineage) Generations() ([]Generation, error) {
	names, err := l.book.below(l.key())
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") || name == displaced || name == nextKeys })
	var generations []Generation
	for _, name := range names[max(0, len(names)-maxGenerations):] {
		if g, err := l.Generation(name); err == nil && g.ID == name {
			generations = append(generations, g)
		}
	}
	return generations, nil // in the order of their IDs, as they are listed
}

// Of the moments in IDs: with and without the dot, which time.Parse needs, and which would end a name.
const (
	momentForm = "20060102T150405.000Z"
	secondsEnd = len("20060102T150405")
)

// momentOf returns when an ID was made; false if it is none.
func momentOf(id string) (at time.Time, ok bool) {
	moment, random, found := strings.Cut(id, "-")
	if !found || len(random) != 8 || len(moment) != len(momentForm)-1 {
		return time.Time{}, false
	}
	at, err := time.Parse(momentForm, moment[:secondsEnd]+"."+moment[secondsEnd:])
	return at, err == nil
}

// uniqueID returns a name that sorts by time and is never returned twice.
func uniqueID(at time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	moment := strings.Replace(at.UTC().Format(momentForm), ".", "", 1)
	return moment + "-" + hex.EncodeToString(random[:])
}

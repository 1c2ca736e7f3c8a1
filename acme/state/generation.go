package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Generation describes one issued certificate. Its files never change after it exists.
type Generation struct {
	Version   int            `json:"version"`
	ID        string         `json:"id"`    // name of its directory; sorts by time of issue
	Names     []string       `json:"names"` // that were asked for; the certificate may have more
	Key       bundle.KeyType `json:"key"`
	Serial    string         `json:"serial"`
	NotBefore time.Time      `json:"not_before"`
	NotAfter  time.Time      `json:"not_after"`
	Issuer    string         `json:"issuer"`
	SPKI      string         `json:"spki_sha256"`
	Directory string         `json:"directory"`       // URL of the CA's directory
	Order     string         `json:"order,omitempty"` // URL of the order it came from
	Created   time.Time      `json:"created"`
}

// generationFile is the content of one file of a generation; the last one is written last.
type generationFile struct {
	name    string
	content []byte
}

// Add stores a checked bundle as a new generation, durably, and gives its description. The bundle's directory appears
// under its final name only when it is complete.
func (l *Lineage) Add(b *bundle.Bundle, names []string, directory, order string, at time.Time) (Generation, error) {
	leaf := b.Leaf()
	g := Generation{
		Version: version, ID: uniqueID(at), Names: names, Key: b.KeyType(), Serial: b.Serial(),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Issuer: leaf.Issuer.CommonName, SPKI: b.SPKI(),
		Directory: directory, Order: order, Created: at.UTC(),
	}
	final := filepath.Join(l.path, g.ID)
	staged := filepath.Join(l.path, ".new-"+g.ID)
	defer os.RemoveAll(staged)
	if err := makeDir(staged); err != nil {
		return Generation{}, storing(final, err)
	}
	for _, f := range []generationFile{
		{"privkey.pem", b.KeyPEM()}, {"fullchain.pem", b.FullchainPEM()}, {"cert.pem", b.LeafPEM()}, {"chain.pem", b.ChainPEM()},
	} {
		if err := writeFile(filepath.Join(staged, f.name), f.content); err != nil {
			return Generation{}, storing(final, err)
		}
	}
	if err := writeJSON(filepath.Join(staged, "meta.json"), g); err != nil {
		return Generation{}, storing(final, err)
	}
	if err := os.Rename(staged, final); err != nil {
		return Generation{}, failed("store", final, err)
	}
	return g, failed("store", final, syncDir(l.path))
}

// storing names what was to be stored instead of what was being written for it.
func storing(final string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err
	}
	return failed("store", final, err)
}

// Bundle reads the bundle of a generation and proves it again: files on a disk change without being asked.
func (l *Lineage) Bundle(id string) (*bundle.Bundle, error) {
	dir := filepath.Join(l.path, filepath.Base(id))
	chain, err := os.ReadFile(filepath.Join(dir, "fullchain.pem"))
	if err != nil {
		return nil, failed("read", filepath.Join(dir, "fullchain.pem"), err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "privkey.pem"))
	if err != nil {
		return nil, failed("read", filepath.Join(dir, "privkey.pem"), err)
	}
	b, err := bundle.Parse(chain, key)
	return b, failed("use", dir, err)
}

// Directory is where the files of a generation are.
func (l *Lineage) Directory(id string) string { return filepath.Join(l.path, filepath.Base(id)) }

// Generation reads the description of one generation.
func (l *Lineage) Generation(id string) (g Generation, err error) {
	err = readJSON(filepath.Join(l.path, filepath.Base(id), "meta.json"), &g)
	return g, err
}

// Generations lists the readable generations, oldest first. What a crash left half made is not listed.
func (l *Lineage) Generations() ([]Generation, error) {
	entries, err := os.ReadDir(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("read", l.path, err)
	}
	var generations []Generation
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "displaced" {
			continue
		}
		if g, err := l.Generation(e.Name()); err == nil && g.ID == e.Name() {
			generations = append(generations, g)
		}
	}
	slices.SortFunc(generations, func(a, b Generation) int { return strings.Compare(a.ID, b.ID) })
	return generations, nil
}

// Prune removes all generations but the newest keep of each key type and those that the record names, and what a
// crash left half made. Call it under the lock.
func (l *Lineage) Prune(record Record, keep int) error {
	generations, err := l.Generations()
	if err != nil {
		return err
	}
	inUse := map[string]bool{}
	for _, slot := range record.Keys {
		if slot == nil {
			continue
		}
		inUse[slot.Current], inUse[slot.Served], inUse[slot.Previous] = true, true, true
	}
	seen := map[bundle.KeyType]int{}
	var problems []error
	for _, g := range slices.Backward(generations) {
		if seen[g.Key]++; seen[g.Key] > keep && !inUse[g.ID] {
			problems = append(problems, l.remove(g.ID))
		}
	}
	return errors.Join(append(problems, l.sweep()...)...)
}

// remove takes a generation out of the list before its files go one after the other.
func (l *Lineage) remove(id string) error {
	aside := filepath.Join(l.path, temporaryPrefix+id)
	err := os.Rename(l.Directory(id), aside)
	if err == nil {
		err = os.RemoveAll(aside)
	}
	return failed("remove", l.Directory(id), err)
}

// uniqueID gives a name that sorts by time and is never given twice.
func uniqueID(at time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:])                                                    // never fails (crypto/rand)
	moment := strings.Replace(at.UTC().Format("20060102T150405.000Z"), ".", "", 1) // no dot: names end in one
	return moment + "-" + hex.EncodeToString(random[:])
}

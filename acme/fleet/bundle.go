package fleet

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Shared is a bundle that another host has offered: checked, and later than what this host has taken or offered before.
type Shared struct {
	Bundle     *bundle.Bundle
	Generation int64
	Host       string // that offered it
	Names      []string
	Directory  string // URL of the CA's directory
	Order      string
	Created    time.Time
}

// published is the payload of a bundle.
type published struct {
	head
	Name      string         `json:"name"`
	KeyType   bundle.KeyType `json:"key_type"`
	Serial    string         `json:"serial"`
	SPKI      string         `json:"spki_sha256"`
	NotAfter  time.Time      `json:"not_after"`
	Names     []string       `json:"names"`
	Directory string         `json:"directory"`
	Order     string         `json:"order,omitempty"`
	Created   time.Time      `json:"created"`
	Chain     string         `json:"chain"`  // PEM, the leaf first
	Sealed    []byte         `json:"sealed"` // a [secretKey]
}

// secretKey is what is sealed of a bundle. It says what it is for, so that it counts nowhere else.
type secretKey struct {
	Fleet      string `json:"fleet"`
	Place      string `json:"place"`
	Generation int64  `json:"generation"`
	SPKI       string `json:"spki_sha256"`
	Key        string `json:"key"` // PKCS #8 PEM
}

func bundlePlace(name string, key bundle.KeyType) string {
	return path.Join("certificate", name, string(key))
}

// Take returns the bundle of a key type that the fleet has and this host does not have yet; nil if there is none. It refuses what is forged,
// replayed, or not what it says: such an error says what, and does not stop a pass. It judges neither the names nor the roots.
//
// While Run is at work it returns what Run has learned and asks nobody, unless this host leads the certificate.
func (m *Member) Take(ctx context.Context, name string, key bundle.KeyType) (*Shared, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	place := bundlePlace(name, key)
	value, err := m.value(ctx, name, place)
	if errors.Is(err, fs.ErrNotExist) || err == nil && value.Revision == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	p, b, err := m.read(place, value.Value)
	if err == nil {
		err = m.older(place, p)
	}
	m.fault(place, err)
	if err != nil {
		return nil, err
	}
	if m.isRevoked(name, p.Serial) {
		return nil, nil //nolint:nilnil // nobody may want it
	}
	now := markOf(p)
	if m.onDisk(name, p.Serial) {
		return nil, m.seen(place, now)
	}
	if before := m.mark(place); before.Serial != now.Serial && !before.before(now) || m.shorter(name, key, p.NotAfter) {
		return nil, nil //nolint:nilnil // what this host has is as good
	}
	return &Shared{
		Bundle: b, Generation: p.Generation, Host: p.Host, Names: p.Names, Directory: p.Directory, Order: p.Order, Created: p.Created,
	}, nil
}

func markOf(p *published) mark {
	return mark{Generation: p.Generation, Serial: p.Serial, NotAfter: p.NotAfter}
}

// older refuses a bundle that is older than what this host has seen.
func (m *Member) older(place string, p *published) error {
	if before := m.mark(place); p.Generation < before.Generation {
		return refusedFor(place, errReplayed, "generation %d of serial %.80s, after %d", p.Generation, p.Serial, before.Generation)
	}
	return nil
}

// read opens a bundle and proves that all that it says of itself is true.
func (m *Member) read(place string, value []byte) (*published, *bundle.Bundle, error) {
	var p published
	if _, err := m.unwrap(place, value, &p); err != nil {
		return nil, nil, err
	}
	var secret secretKey
	if err := m.unsealed(place, p.Sealed, &secret); err != nil {
		return nil, nil, err
	}
	b, err := bundle.Parse([]byte(p.Chain), []byte(secret.Key))
	switch {
	case err != nil:
		return nil, nil, refusedFor(place, errGarbage, "%.200v", err)
	case secret.Fleet != m.set.Name || secret.Place != place || secret.Generation != p.Generation || secret.SPKI != p.SPKI:
		return nil, nil, refusedFor(place, errSwapped, "its key is for %.100q", secret.Place)
	case bundlePlace(p.Name, p.KeyType) != place || b.KeyType() != p.KeyType || b.Serial() != p.Serial || b.SPKI() != p.SPKI || !b.NotAfter().Equal(p.NotAfter):
		return nil, nil, refusedFor(place, errGarbage, "the certificate is not the one that it describes")
	}
	return &p, b, nil
}

// onDisk reports whether a readable generation on this host's disk has a serial.
func (m *Member) onDisk(name, serial string) bool {
	l := m.book.Lineage(name)
	generations, err := l.Generations()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(generations, func(g state.Generation) bool {
		if g.Serial != serial {
			return false
		}
		_, err := l.Bundle(g.ID)
		return err == nil
	})
}

// shorter reports whether a certificate ends before the one that this host serves, which is still good: then it would be a step backward
// (invariant I3).
func (m *Member) shorter(name string, key bundle.KeyType, notAfter time.Time) bool {
	l := m.book.Lineage(name)
	record, _, err := l.Look()
	slot := record.Keys[key]
	if err != nil || slot == nil || slot.Current == "" {
		return false
	}
	g, err := l.Generation(slot.Current)
	if err != nil || !g.NotAfter.After(notAfter) || !g.NotAfter.After(time.Now()) {
		return false
	}
	if _, gone := l.Revocation(g.ID); gone || l.Compromised(g.SPKI) || m.isRevoked(name, g.Serial) {
		return false
	}
	_, err = l.Bundle(g.ID)
	return err == nil
}

// Taken notes, durably on this host's disk, that a bundle is stored here: an older generation is refused from now on. An order in flight
// that the bundle has overtaken is dropped from the disk.
func (m *Member) Taken(name string, key bundle.KeyType, s *Shared) error {
	if m == nil || s == nil {
		return nil
	}
	now := mark{Generation: s.Generation, Serial: s.Bundle.Serial(), NotAfter: s.Bundle.NotAfter().UTC()}
	if err := m.seen(bundlePlace(name, key), now); err != nil {
		return err
	}
	l := m.book.Lineage(name)
	order, ok, err := l.Order(key)
	if err != nil || !ok {
		return nil //nolint:nilerr // an order that cannot be read is no obstacle; the next order says so
	}
	if order.URL == s.Order && s.Order != "" || order.Created.Before(s.Created) {
		return l.DropOrder(key)
	}
	return nil
}

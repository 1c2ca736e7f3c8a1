package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"mxcert/acme/state"
)

// trustFile keeps the statements about recipients on this host's disk: removals count for good.
const trustFile = "fleet/trust.json"

// keptTrust is its content.
type keptTrust struct {
	Version int    `json:"version"`
	Fleet   string `json:"fleet"`
	remembered
}

// recallTrust reads what this host remembers of recipients. If that cannot be read now, or a later mxcert wrote it, the error says so: a host that
// does not know who was removed takes no part.
func (m *Member) recallTrust() error {
	text, err := m.disk.Read(trustFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return refusal("see what keeps mxcert from reading the file; it tries again", "whom the fleet trusts cannot be read on this host: %v", err)
	}
	var kept keptTrust
	err = decode(text, m.disk.Path(trustFile), &kept)
	switch {
	case isRefused(err, LaterVersion):
		return refusal("install the mxcert that wrote it, or a later one", "a later mxcert wrote whom this host trusts, and this one cannot read it: %s", m.disk.Path(trustFile))
	case err != nil:
		m.log.Error("what this host remembers of the fleet's recipients is damaged; it is learned again from the store", "file", m.disk.Path(trustFile))
		return nil //nolint:nilerr // it is reported
	case kept.Fleet != m.set.Name:
		return nil
	}
	next, problems := m.trust.Load().recall(kept.remembered)
	for _, problem := range problems {
		m.log.Warn("a statement about a recipient is damaged; it is learned again from the store", "error", problem)
	}
	m.trust.Store(next)
	return nil
}

// knowsTrust reads again what could not be read before.
func (m *Member) knowsTrust() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.untrusting != nil {
		m.untrusting = m.recallTrust()
	}
	return m.untrusting
}

// believe learns from all values below recipient/ whom to trust, and remembers it before it counts.
func (m *Member) believe(values []state.Versioned) {
	next, problems := m.trust.Load().learn(values)
	text, err := json.Marshal(keptTrust{version, m.set.Name, next.memory()})
	if before, readErr := m.disk.Read(trustFile); err == nil && (readErr != nil || !bytes.Equal(before, text)) && (readErr == nil || len(values) > 0) {
		err = m.disk.Replace(trustFile, text)
	}
	if err != nil {
		m.log.Error("whom the fleet trusts cannot be stored on this host; what was stored before counts", "error", err)
		return
	}
	same := slices.Equal(m.trust.Load().recipients(), next.recipients())
	m.trust.Store(next)
	m.mu.Lock()
	if !same {
		m.unread() // what was believed may count no more
	}
	var over []string // faults that may have ended
	for place := range m.faults {
		if strings.HasPrefix(place, recipientsRoom+"/") {
			over = append(over, place)
		}
	}
	m.mu.Unlock()
	for _, problem := range problems {
		if r, ok := errors.AsType[*Refused](problem); ok {
			m.fault(r.Key, problem)
			over = slices.DeleteFunc(over, func(place string) bool { return place == r.Key })
		}
	}
	for _, place := range over {
		m.fault(place, nil)
	}
}

// readTrust reads the values below recipient/ and learns from them. If strangers have written so many there that nobody can look at all of
// them, ok is false: what this host remembers counts, and the fault is reported.
func (m *Member) readTrust(ctx context.Context) (values []state.Versioned, revision int64, ok bool, err error) {
	values, revision, err = m.shared.Below(ctx, recipientsRoom)
	switch {
	case errors.Is(err, state.ErrDamaged):
		m.fault(recipientsRoom, refused(Truncated, recipientsRoom, "%v", err))
		return nil, revision, false, nil
	case err != nil:
		return nil, 0, false, err
	}
	m.fault(recipientsRoom, nil)
	m.believe(values)
	return values, revision, true, nil
}

// restoreStatements writes statements again that the store has lost, so that hosts which join learn them.
func (m *Member) restoreStatements(ctx context.Context, values []state.Versioned) error {
	lost := m.trust.Load().missing(values)
	there := map[string]int64{}
	for _, v := range values {
		there[v.Key] = v.Revision
	}
	for _, v := range lost {
		if err := m.swap(ctx, nil, v.Key, there[v.Key], v.Value); err != nil && !errors.Is(err, state.ErrChanged) {
			return err
		}
	}
	return nil
}

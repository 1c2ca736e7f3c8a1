package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// Trust is a recipient that this host knows.
type Trust struct {
	Recipient string    `json:"recipient"`
	Host      string    `json:"host,omitempty"` // whose it is
	State     string    `json:"state"`          // trusted, removed, or unknown: added by nobody who is trusted
	Source    string    `json:"source"`         // this host, configured, added, or removed
	By        string    `json:"by,omitempty"`   // who has added or removed it
	At        time.Time `json:"at,omitzero"`
}

// Recipients lists the recipients that this host knows, as far as it has learned.
func (m *Member) Recipients() (list []Trust) {
	if m == nil {
		return nil
	}
	t := m.trust.Load()
	own := m.recipient()
	all := t.recipients()
	for r := range t.removed {
		all = append(all, r)
	}
	slices.Sort(all)
	for _, r := range slices.Compact(all) {
		about := Trust{Recipient: string(r), State: "trusted", Source: "configured"}
		switch s, gone := t.removed[r]; {
		case gone:
			about.State, about.Source, about.Host, about.By, about.At = isRemoved, isRemoved, s.Host, string(s.by), s.At
		case r == own:
			about.Source, about.Host = "this host", m.set.Host
		case !t.configured[r]:
			about.Source = isAdded
			for _, s := range t.added[r] {
				about.Host, about.By, about.At = s.Host, string(s.by), s.At
			}
		}
		list = append(list, about)
	}
	return list
}

// AddRecipient makes all hosts trust a recipient, and encrypts all secrets anew, so that it can open them.
func (m *Member) AddRecipient(ctx context.Context, r seal.Recipient, host string) error {
	if m == nil {
		return refusal("", "this host is in no fleet")
	}
	if err := m.learnTrust(ctx); err != nil {
		return err
	}
	statement, err := m.trust.Load().add(m.self.Load(), r, host, m.now())
	if err != nil {
		return err
	}
	if err := m.put(ctx, statement); err != nil {
		return err
	}
	_, err = m.sealAgain(ctx, m.vault())
	return err
}

// RemoveRecipient makes all hosts stop trusting a recipient, for good, and encrypts all secrets anew, without it. It returns the keys of the
// values that were written. What the recipient could read before it can still know: new private keys are the caller's matter.
func (m *Member) RemoveRecipient(ctx context.Context, r seal.Recipient) (changed []string, err error) {
	if m == nil {
		return nil, refusal("", "this host is in no fleet")
	}
	if r == m.recipient() {
		return nil, refusal("run this on another host of the fleet", "a host cannot remove itself")
	}
	if err := m.learnTrust(ctx); err != nil {
		return nil, err
	}
	if err := m.signMark(ctx); err != nil {
		return nil, err
	}
	hosts, _, err := m.hostIndex(ctx) // while the removed one is believed: it may have been the last to write it
	if err != nil {
		return nil, err
	}
	host, err := m.ownerOf(ctx, r)
	if err != nil {
		return nil, err
	}
	t := m.trust.Load()
	statements, err := t.remove(m.self.Load(), r, host, t.vouched(r), m.now())
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		if err := m.put(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := m.signHosts(ctx, hosts); err != nil {
		return nil, err
	}
	before := m.vault()
	before.trust = t // what the removed one has signed is signed anew
	return m.sealAgain(ctx, before)
}

// ownerOf returns which host has a recipient; "" if none is known. A configuration does not say it: the host says it, as long as it is believed.
func (m *Member) ownerOf(ctx context.Context, r seal.Recipient) (host string, err error) {
	for _, known := range m.Recipients() {
		if known.Recipient == string(r) && known.Host != "" {
			return known.Host, nil
		}
	}
	hosts, err := m.allHosts(ctx)
	for _, h := range hosts {
		if err == nil && h.Recipient == string(r) {
			return h.Host, nil
		}
	}
	return "", err
}

// learnTrust reads the statements in the store.
func (m *Member) learnTrust(ctx context.Context) error {
	return m.ask(ctx, func(ctx context.Context) error {
		_, _, _, err := m.readTrust(ctx)
		return err
	})
}

// put writes a statement and believes it.
func (m *Member) put(ctx context.Context, s state.Versioned) error {
	if err := m.replace(ctx, s.Key, s.Value); err != nil {
		return err
	}
	m.believe([]state.Versioned{s})
	return nil
}

// sealAgain encrypts all secrets in the store that before could read anew, to those who are trusted now, and signs them. Their generations stay.
func (m *Member) sealAgain(ctx context.Context, before vault) (changed []string, err error) {
	places, err := m.sealedPlaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		done, err := m.sealOne(ctx, before, p)
		if err != nil {
			return changed, fmt.Errorf("encrypt %s anew: %w", p, err)
		}
		if done {
			changed = append(changed, p.String())
		}
	}
	return changed, nil
}

// sealedPlaces lists where secrets may be.
func (m *Member) sealedPlaces(ctx context.Context) (places []place, err error) {
	var certificates, orders, accounts []string
	if err := m.ask(ctx, func(context.Context) (err error) {
		if certificates, err = m.shared.List("certificate"); err != nil {
			return err
		}
		if orders, err = m.shared.List("order"); err != nil {
			return err
		}
		accounts, err = m.shared.List("account")
		return err
	}); err != nil {
		return nil, err
	}
	for _, key := range keyTypes() {
		for _, name := range first(certificates, mostCertificates) {
			name = strings.TrimSuffix(name, "/")
			places = append(places, place{kindBundle, name, key}, place{kindNext, name, key})
		}
		for _, name := range first(orders, mostCertificates) {
			places = append(places, place{kindOrder, strings.TrimSuffix(name, "/"), key})
		}
	}
	for _, name := range first(accounts, mostAccounts) {
		places = append(places, place{kind: kindAccount, name: name})
	}
	return places, nil
}

// mostCertificates bounds how many certificates of the store are looked at.
const mostCertificates = 2000

// sealOne encrypts one secret anew. What somebody changes meanwhile is tried again.
func (m *Member) sealOne(ctx context.Context, before vault, p place) (done bool, err error) {
	for range 5 {
		v, err := m.get(ctx, p.String())
		if err != nil || v.Revision == 0 {
			return false, err
		}
		d, s, err := before.open(v.Value, p, 0)
		if err != nil {
			return false, nil //nolint:nilerr // an ended order, or what nobody can open
		}
		value, err := m.vault().write(p, *d, *s)
		if err != nil {
			return false, err
		}
		if err := m.swap(ctx, nil, p.String(), v.Revision, value); !errors.Is(err, state.ErrChanged) {
			return err == nil, err
		}
	}
	return false, state.ErrChanged
}

package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"mxcert/acme/state"
)

func accountPlace(ca string) string { return place{kind: kindAccount, name: ca}.String() }
func diskAccount(ca string) string  { return "accounts/" + ca + "/account.json" }

// hashOf tells two records of an account apart.
func hashOf(account *state.Account) string {
	if account == nil {
		return ""
	}
	text, _ := json.Marshal(account)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// readAccount returns what the store has of an account; nil if it has none that can be used.
func (m *Member) readAccount(ctx context.Context, ca string) (account *state.Account, generation, revision int64, err error) {
	place := accountPlace(ca)
	v, err := m.get(ctx, place)
	if err != nil || v.Revision == 0 {
		return nil, 0, 0, err
	}
	found, generation, err := m.vault().openAccount(v.Value, ca, m.mark(place).Generation)
	m.fault(place, err)
	switch {
	case isRefused(err, LaterVersion):
		return nil, 0, 0, err
	case err != nil:
		return nil, 0, v.Revision, nil //nolint:nilerr // it is reported, and replaced with what is on this disk
	}
	return &found, generation, v.Revision, nil
}

// saveAccount stores an account in the store of the fleet, if it can be asked, and on the disk. If another host has changed the account
// meanwhile, that one is written to the disk, and the error says to try again.
func (m *Member) saveAccount(key, ca string, value []byte) error {
	var account state.Account
	if err := json.Unmarshal(value, &account); err != nil {
		return m.disk.Replace(key, value)
	}
	ctx, cancel := background()
	defer cancel()
	err := m.shareAccount(ctx, ca, &account, false)
	if errors.Is(err, errTakeTheirs) {
		if err := m.takeAccount(ctx, ca); err != nil {
			return err
		}
		return &state.Error{Op: "store", Path: m.disk.Path(key), Err: fmt.Errorf("another host has changed the account of the fleet, which is now used here, too: %w", state.ErrLocked)}
	}
	if err != nil && !isAway(err) && !errors.Is(err, state.ErrLocked) {
		return err
	}
	return m.disk.Replace(key, value) // adoptAccounts sends it later, or keepAccounts
}

var errTakeTheirs = errors.New("another host has changed it")

// shareAccount gives the store an account. ours says that this host's counts whatever the store has.
func (m *Member) shareAccount(ctx context.Context, ca string, account *state.Account, ours bool) error {
	place := accountPlace(ca)
	for {
		theirs, generation, revision, err := m.readAccount(ctx, ca)
		if err != nil {
			return err
		}
		before := m.mark(place)
		if theirs != nil && hashOf(theirs) == hashOf(account) {
			return m.seen(place, mark{Generation: generation, Hash: hashOf(account)})
		}
		if generation > before.Generation && !ours {
			return errTakeTheirs
		}
		next := max(generation, before.Generation) + 1
		text, err := m.vault().sealAccount(ca, next, *account)
		if err != nil {
			return err
		}
		if err = m.swap(ctx, nil, place, revision, text); err == nil {
			return m.seen(place, mark{Generation: next, Hash: hashOf(account)})
		}
		if !errors.Is(err, state.ErrChanged) {
			return err
		}
	}
}

// takeAccount writes the fleet's account to this disk. One of this host's own, which the fleet's replaces, is kept beside it.
func (m *Member) takeAccount(ctx context.Context, ca string) error {
	theirs, generation, _, err := m.readAccount(ctx, ca)
	if err != nil || theirs == nil {
		return err
	}
	account := *theirs
	ours, ok, err := m.book.Account(account.Directory)
	if err == nil && ok && ours.URL != account.URL && ours.Key != account.Key {
		kept, err := m.book.RetireAccount(account.Directory, m.now())
		if err != nil {
			return err
		}
		m.log.Warn("the account of the fleet is used from now on; that of this host is kept", "file", kept)
	}
	if err := m.book.SaveAccount(account); err != nil {
		return err
	}
	return m.seen(accountPlace(ca), mark{Generation: generation, Hash: hashOf(theirs)})
}

// adoptAccounts makes the accounts on this disk and in the store the same: the newer one counts.
func (m *Member) adoptAccounts(ctx context.Context) error {
	list, err := m.accountsOfAll(ctx)
	if err != nil {
		return err
	}
	for _, ca := range list {
		if err := m.adoptAccount(ctx, ca); err != nil {
			return err
		}
	}
	return nil
}

func (m *Member) adoptAccount(ctx context.Context, ca string) error {
	place := accountPlace(ca)
	theirs, generation, _, err := m.readAccount(ctx, ca)
	if err != nil {
		return err
	}
	ours, err := m.accountHere(ca)
	if err != nil {
		return nil //nolint:nilerr // the order itself says what is wrong with it
	}
	before := m.mark(place)
	changed := ours != nil && hashOf(ours) != before.Hash
	switch {
	case ours == nil && theirs == nil, theirs != nil && ours != nil && hashOf(theirs) == hashOf(ours) && generation == before.Generation:
		return nil
	case ours == nil:
		return m.takeAccount(ctx, ca)
	case theirs == nil, changed && sameAccount(ours, theirs):
		return m.shareAccount(ctx, ca, ours, true)
	case generation > before.Generation:
		return m.takeAccount(ctx, ca)
	}
	return m.shareAccount(ctx, ca, ours, true)
}

// accountHere returns the account on this disk; nil if there is none.
func (m *Member) accountHere(ca string) (*state.Account, error) {
	text, err := m.disk.Read(diskAccount(ca))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	var account state.Account
	if err == nil {
		err = json.Unmarshal(text, &account)
	}
	return &account, err
}

// sameAccount reports whether two records are of one account, of which this host has changed something while the store was away.
func sameAccount(a, b *state.Account) bool { return a.URL != "" && a.URL == b.URL }

// mostAccounts bounds how many CAs are looked at.
const mostAccounts = 20

// accountsOfAll lists the folders of accounts on this disk and in the store.
func (m *Member) accountsOfAll(ctx context.Context) ([]string, error) {
	var names []string
	err := m.ask(ctx, func(context.Context) (err error) {
		names, err = m.shared.List("account")
		return err
	})
	if err != nil {
		return nil, err
	}
	here, err := m.disk.List("accounts")
	if err != nil {
		return nil, err
	}
	return foldersAndNames(names, here), nil
}

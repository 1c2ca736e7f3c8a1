package fleet

import (
	"context"
	"errors"
)

// keepAccounts copies each account to where there is none: to the disk of this host, and to a store that has lost it. So every host can give an
// empty store what it had, and orders with the account of the fleet, whose address CAA records may name. Which of two accounts counts is a
// matter of who orders, see adoptAccounts.
func (m *Member) keepAccounts(ctx context.Context) error {
	list, err := m.accountsOfAll(ctx)
	if err != nil {
		return err
	}
	for _, ca := range list {
		if err := m.keepAccount(ctx, ca); isAway(err) && !full(err) {
			return err
		} else if err != nil {
			m.log.Warn("an account of the fleet cannot be copied; who orders tries again", "ca", ca, "error", err)
		}
	}
	return nil
}

func (m *Member) keepAccount(ctx context.Context, ca string) error {
	ours, err := m.accountHere(ca)
	if err != nil {
		return nil //nolint:nilerr // the order itself says what is wrong with it
	}
	place := accountPlace(ca)
	generation := m.mark(place).Generation
	if ours != nil && generation == 0 {
		return nil // it is of before this host was in the fleet
	}
	v, err := m.get(ctx, place)
	switch {
	case err != nil:
		return err
	case ours != nil && v.Revision == 0:
		if err := m.shareAccount(ctx, ca, ours, false); !errors.Is(err, errTakeTheirs) {
			return err
		}
	case ours == nil && v.Revision != 0:
		if _, _, err := m.vault().openAccount(v.Value, ca, generation); err != nil {
			return nil //nolint:nilerr // who orders with this CA reports it
		}
		return m.takeAccount(ctx, ca)
	}
	return nil
}

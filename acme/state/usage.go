package state

import (
	"context"
	"errors"
	"io/fs"

	"mxcert/acme/schedule"
)

// Usage is what mxcert asked of a CA, and with what result: budgets and backoff survive restarts and are shared by all
// lineages.
type Usage struct {
	Version int              `json:"version"`
	Ledger  schedule.Ledger  `json:"ledger,omitzero"`
	Breaker schedule.Breaker `json:"breaker,omitzero"`
	// Validation and Issuance are how long the CA takes to look at the records, and to make the certificate.
	Validation schedule.Pace `json:"validation,omitzero"`
	Issuance   schedule.Pace `json:"issuance,omitzero"`
}

// Usage reads the usage of a CA. A missing or damaged one is empty: a lost note must not stop a renewal.
func (b *Book) Usage(directory string) (usage Usage, err error) {
	err = b.read(usageKey(directory), &usage)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return Usage{}, nil
	}
	return usage, err
}

// ChangeUsage changes the usage of a CA, durably, while no other process does. If change returns an error, the usage
// stays as it was, and ChangeUsage returns that error.
func (b *Book) ChangeUsage(ctx context.Context, directory string, change func(*Usage) error) error {
	unlock, err := b.store.Lock(ctx, "usage.lock")
	if err != nil {
		return err
	}
	defer unlock()
	usage, err := b.Usage(directory)
	if err != nil {
		return err
	}
	if err := change(&usage); err != nil {
		return err
	}
	usage.Version = version
	return b.write(usageKey(directory), usage)
}

func usageKey(directory string) string { return accountFolder(directory) + "/usage.json" }

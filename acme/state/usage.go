package state

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"mxcert/acme/schedule"
)

// Usage is what was asked of a CA, and how it fared: budgets and backoff hold over restarts and for all lineages.
type Usage struct {
	Version int              `json:"version"`
	Ledger  schedule.Ledger  `json:"ledger,omitzero"`
	Breaker schedule.Breaker `json:"breaker,omitzero"`
	// Validation and Issuance are how long the CA takes to look at the records, and to make the certificate.
	Validation schedule.Pace `json:"validation,omitzero"`
	Issuance   schedule.Pace `json:"issuance,omitzero"`
}

// Usage reads the usage of a CA. One that is missing or damaged is empty: a lost note must not stop a renewal.
func (d *Dir) Usage(directory string) (usage Usage, err error) {
	err = readJSON(d.usagePath(directory), &usage)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return Usage{}, nil
	}
	return usage, err
}

// ChangeUsage changes the usage of a CA, durably, while no other process does. An error of change leaves it as it was
// and is returned.
func (d *Dir) ChangeUsage(ctx context.Context, directory string, change func(*Usage) error) error {
	unlock, err := lock(ctx, filepath.Join(d.path, "usage.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	usage, err := d.Usage(directory)
	if err != nil {
		return err
	}
	if err := change(&usage); err != nil {
		return err
	}
	path := d.usagePath(directory)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	usage.Version = version
	return writeJSON(path, usage)
}

func (d *Dir) usagePath(directory string) string {
	return filepath.Join(d.accountDir(directory), "usage.json")
}

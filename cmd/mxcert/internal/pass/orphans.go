package pass

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/state"
)

// SweepOrphans removes TXT records of certificates that the configuration no longer names; no pass would remove them. It uses the accounts
// of any certificate with the same DNS provider. If there is no such certificate, the error names the records, and the operator has to
// remove them.
func (r *Runner) SweepOrphans(ctx context.Context, say acme.Progress) error {
	names, err := r.Store.JournalLineages()
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		if _, configured := r.Host.Certificate(name); !configured {
			problems = append(problems, r.sweepOrphan(ctx, r.Store.Lineage(name), say))
		}
	}
	return errors.Join(problems...)
}

func (r *Runner) sweepOrphan(ctx context.Context, lineage *state.Lineage, say acme.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := lineage.Journal()
	if len(entries) == 0 {
		return err // an entry that cannot be used does not keep the others; CleanUp reports it
	}
	provider := dnsprovider.Account{Zone: entries[0].Account, Provider: entries[0].Provider}
	var problems []error
	for _, want := range r.Host.Certificates {
		resolver := want.Resolver()
		accounts := want.Accounts(resolver)
		if !slices.ContainsFunc(entries, func(e state.Entry) bool { return len(acme.Heirs(accounts, e)) > 0 }) {
			continue
		}
		if err = acme.CleanUp(ctx, lineage, accounts, resolver, say); err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("TXT record %s of certificate %s, which is no longer configured, may still exist: %w", entries[0].Records[0].Name, lineage.Name(),
		errors.Join(append(problems, fmt.Errorf("no configured certificate can use the DNS provider %s to remove it", provider))...))
}

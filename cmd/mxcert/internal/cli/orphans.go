package cli

import (
	"context"
	"errors"
	"fmt"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/state"
)

// sweepOrphans removes TXT records that were made for certificates which the configuration does not name any more. No
// pass would come by them. The settings of any certificate with the same DNS provider serve; without one the records
// are named, for an operator to remove.
func (w *world) sweepOrphans(ctx context.Context, say acme.Progress) error {
	names, err := w.store.JournalLineages()
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		if _, configured := w.config.Certificate(name); !configured {
			problems = append(problems, w.sweepOrphan(ctx, w.store.Lineage(name), say))
		}
	}
	return errors.Join(problems...)
}

func (w *world) sweepOrphan(ctx context.Context, lineage *state.Lineage, say acme.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := lineage.Journal()
	if err != nil || len(entries) == 0 {
		return err
	}
	provider := entries[0].Provider
	var problems []error
	for _, c := range w.config.Certificates {
		if c.DNS.Provider != provider {
			continue
		}
		p := &pass{world: w, certificate: c}
		var solver dnsprovider.Solver
		if solver, err = p.solver(); err == nil {
			err = acme.CleanUp(ctx, lineage, provider, solver, p.resolver(), say)
		}
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("TXT record %s of certificate %s, which is not configured any more, may still be there: %w", entries[0].Records[0].Name, lineage.Name(),
		errors.Join(append(problems, fmt.Errorf("no certificate here uses the DNS provider %s with success", provider))...))
}

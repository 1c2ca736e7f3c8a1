package acme

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// CleanUp removes the records that an earlier run has left, according to the journal: each by the account that made it, or by the one
// at the same provider that would make it now. It cannot remove the records of another provider, and names them in the error. It also
// names those that the provider cannot remove, until the authoritative servers show that they are gone, or never were there. It says
// nothing twice.
func CleanUp(ctx context.Context, lineage *state.Lineage, accounts dnsprovider.Accounts, resolver *resolve.Resolver, say Progress) error {
	entries, err := lineage.Journal()
	problems := []error{err}
	for _, entry := range entries {
		err := sweep(ctx, lineage, entry, accounts, resolver, say)
		said := func(earlier error) bool { return earlier != nil && err != nil && earlier.Error() == err.Error() }
		if !slices.ContainsFunc(problems, said) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// Heirs returns the accounts that may remove the records of an entry; see [dnsprovider.Accounts.Heirs].
func Heirs(accounts dnsprovider.Accounts, entry state.Entry) []dnsprovider.Account {
	first := entry.Records[0]
	return accounts.Heirs(entry.Account, entry.Provider, resolve.Place{Name: first.Name, Zone: first.Zone})
}

// sweep removes the records of one entry, and the entry. If no account succeeds, the error is that of the first.
func sweep(ctx context.Context, lineage *state.Lineage, entry state.Entry, accounts dnsprovider.Accounts, resolver *resolve.Resolver, say Progress) (failed error) {
	heirs := Heirs(accounts, entry)
	if len(heirs) == 0 {
		maker := dnsprovider.Account{Zone: entry.Account, Provider: entry.Provider}
		return fmt.Errorf("TXT record %s was created by the provider %s and still exists: remove it by hand", entry.Records[0].Name, maker)
	}
	for _, heir := range heirs {
		err := sweepBy(ctx, lineage, entry, heir, resolver, say)
		if err == nil {
			return nil
		}
		failed = cmp.Or(failed, err)
	}
	return failed
}

// sweepBy is sweep by one account.
func sweepBy(ctx context.Context, lineage *state.Lineage, entry state.Entry, account dnsprovider.Account, resolver *resolve.Resolver, say Progress) error {
	share := dnsprovider.Share{Account: account, Records: make([]dnsprovider.TXT, len(entry.Records))}
	for i, r := range entry.Records {
		share.Records[i] = dnsprovider.TXT{Place: resolve.Place{Name: r.Name, Zone: r.Zone}, Domain: r.Domain, Value: r.Value, Token: r.Token, KeyAuth: r.KeyAuth}
	}
	err := recovering(func(int) error { return share.CleanUp(ctx) }, 0)
	switch {
	case err == nil:
		say("dns", fmt.Sprintf("removed what an earlier run may have left: %d TXT %s", len(share.Records), plural(len(share.Records), "record")))
	case settled(err, entry.Created) && absent(ctx, resolver, share.Records):
		say("dns", "the TXT records of an earlier run are not in DNS")
	default:
		return err
	}
	return lineage.Forget(entry)
}

// publication is how long a provider may take to show a record in DNS that it has accepted.
const publication = time.Hour

// settled reports whether DNS can say whether the records of a failed removal exist: not if the next try may succeed and the provider
// may not have published them yet.
func settled(err error, created time.Time) bool {
	if _, rest := dnsprovider.Forgotten(err); rest == nil {
		return true
	}
	e, ok := errors.AsType[*dnsprovider.Error](err)
	return ok && !e.Temporary() || time.Since(created) > publication
}

// absent reports whether no authoritative server has any of the records.
func absent(ctx context.Context, resolver *resolve.Resolver, records []dnsprovider.TXT) bool {
	for _, r := range expected(records) {
		if gone, err := resolver.Absent(ctx, r); err != nil || !gone {
			return false
		}
	}
	return true
}

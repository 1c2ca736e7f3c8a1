package doctor

import (
	"context"
	"fmt"
	"strings"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const (
	setUpHint    = "see the checks `secrets` and `configuration` above"
	notFoundHint = "see the checks `challenge` and `dnssec`"
)

// Provider sets up the DNS accounts of a certificate, and the service that takes its TLSA records, with the secrets that this process can
// read, and tests their rights if they allow such a test. If online is set, it also has them create and remove a record for each name. Like every test of this package it
// neither hangs nor panics.
func Provider(ctx context.Context, want wanted.Certificate, online bool) []finding.Finding {
	t := test{run: func(ctx context.Context) []finding.Finding {
		resolver := want.Resolver()
		found := provider(ctx, want, resolver)
		if online && finding.Worst(found) != finding.Error {
			ctx, cancel := context.WithTimeout(ctx, onlineTime)
			defer cancel()
			found = append(found, rehearsed(ctx, want, resolver)...)
		}
		return append(found, published(ctx, want, resolver, online)...)
	}}
	if online {
		t.grace = dnsprovider.CleanUpTime + grace
	}
	return t.within(ctx)
}

// provider sets up the DNS account, and tests its rights if the provider allows such a test. With dns.zones it does so for each account
// that a challenge of the certificate needs.
func provider(ctx context.Context, want wanted.Certificate, resolver *resolve.Resolver) []finding.Finding {
	accounts := want.Accounts(resolver)
	challenges := func() []dnsprovider.TXT { return dnsprovider.Challenges(ctx, resolver, want.Required()) } // the preflight says why a place cannot be found
	var found []finding.Finding
	if accounts.Zoned() {
		found = zoneAccounts(ctx, accounts, challenges())
	} else {
		for _, account := range accounts { // there is one
			found = append(found, rights(ctx, account, challenges)...)
		}
	}
	if finding.Worst(found) == finding.Error {
		return found
	}
	return append(found, optional(ctx, want, accounts, resolver)...)
}

// optional tests the rights for each optional name by itself. What is wrong is a warning, because an order leaves the name out.
func optional(ctx context.Context, want wanted.Certificate, accounts dnsprovider.Accounts, resolver *resolve.Resolver) (found []finding.Finding) {
	for _, record := range dnsprovider.Challenges(ctx, resolver, want.Optional) {
		if err := accounts.Check(ctx, record); err != nil {
			found = append(found, doubtful("%s; the name %s is optional: an order that fails because of it leaves it out", report.OneLine(err.Error()), record.Domain).
				About(record.Domain).Next(report.HintOf(err)))
		}
	}
	return found
}

// rights tests an account for the records that challenges returns.
func rights(ctx context.Context, account dnsprovider.Account, challenges func() []dnsprovider.TXT) []finding.Finding {
	name := account.String()
	solver, err := account.Solver()
	if err != nil {
		return faults(err, setUpHint)
	}
	if _, ok := solver.(dnsprovider.Checker); !ok {
		return []finding.Finding{well("%s is set up; the first order will show whether it can create records", name).About(name)}
	}
	share := dnsprovider.Share{Account: account, Records: challenges()}
	if len(share.Records) == 0 {
		return []finding.Finding{doubtful("%s is set up; its rights were not tested, because no zone for the records was found", name).About(name).Next(notFoundHint)}
	}
	proof, err := share.Check(ctx)
	if err != nil {
		return faults(err, "see the name server's log")
	}
	return []finding.Finding{well("%s %s", name, proof).About(name)}
}

// zoneAccounts tests each account for the records that are in its zone, and names the names that it proves.
func zoneAccounts(ctx context.Context, accounts dnsprovider.Accounts, records []dnsprovider.TXT) []finding.Finding {
	if len(records) == 0 {
		return []finding.Finding{doubtful("the accounts of dns.zones were not tested, because no zone for the records was found").Next(notFoundHint)}
	}
	shares, err := accounts.Divide(records)
	found := faults(err, "see dns.zones of the configuration")
	for _, share := range shares {
		for _, f := range rights(ctx, share.Account, func() []dnsprovider.TXT { return share.Records }) {
			if f.Severity == finding.OK {
				f.Message += fmt.Sprintf("; it proves %s", strings.Join(share.Domains(), ", "))
			}
			found = append(found, f)
		}
	}
	return found
}

package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/resolve"
)

// Account is an account at a DNS provider, with the zone whose challenges it proves.
type Account struct {
	// Zone is a name, as people write it, in lower case: the account makes the records at and below it. "" is for the account that
	// makes all the others.
	Zone     string
	Provider string
	open     func() (Solver, error)
}

// NewAccount returns an account that open sets up, once, when it is needed first: an account that no name of an order needs cannot
// make the order fail.
func NewAccount(zone, provider string, open func() (Solver, error)) Account {
	return Account{Zone: zone, Provider: provider, open: sync.OnceValues(open)}
}

// Solver returns what makes the records of the account.
func (a Account) Solver() (Solver, error) {
	s, err := a.open()
	return s, a.named(err)
}

// String names the account for people.
func (a Account) String() string {
	if a.Zone == "" {
		return a.Provider
	}
	return fmt.Sprintf("%s (dns.zones: %s)", a.Provider, a.Zone)
}

// named puts the zone of the account into every *Error of a tree, and the right section into the hint.
func (a Account) named(err error) error {
	if err == nil || a.Zone == "" {
		return err
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // a tree of errors is walked this way
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, a.named(e))
		}
		return errors.Join(all...)
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // see above
		copied := *e
		copied.Zone = a.Zone
		copied.NextStep = strings.ReplaceAll(e.NextStep, "dns.env", "dns.zones["+a.Zone+"].env")
		return &copied
	}
	return err
}

// Accounts are those of one certificate, each with another zone.
type Accounts []Account

// Of returns the account that makes the record at a place: the one with the longest zone at or above the record's name, where
// CNAMEs have led to; else the one without a zone, if there is one.
func (a Accounts) Of(place resolve.Place) (best Account, found bool) {
	name := strings.ToLower(resolve.PlainName(place.Name))
	for _, candidate := range a {
		in := candidate.Zone == "" || name == candidate.Zone || strings.HasSuffix(name, "."+candidate.Zone)
		if in && (!found || len(candidate.Zone) > len(best.Zone)) {
			best, found = candidate, true
		}
	}
	return best, found
}

// Zoned reports whether the place of a record decides which account makes it.
func (a Accounts) Zoned() bool {
	return slices.ContainsFunc(a, func(account Account) bool { return account.Zone != "" })
}

// Divide gives each record to the account of its place. Shares are in the order of their first records. The error names the records
// that no account makes; it is an *Error.
func (a Accounts) Divide(records []TXT) ([]Share, error) {
	var shares []Share
	var lost []TXT
	for _, r := range records {
		account, found := a.Of(r.Place)
		if !found {
			lost = append(lost, r)
			continue
		}
		i := slices.IndexFunc(shares, func(s Share) bool { return s.Zone == account.Zone })
		if i < 0 {
			i = len(shares)
			shares = append(shares, Share{Account: account})
		}
		shares[i].Records = append(shares[i].Records, r)
	}
	if len(lost) > 0 {
		return shares, uncovered(lost)
	}
	return shares, nil
}

// Prepare puts in place what the accounts need before an order (see [Preparer]), and finds out whether each can be set up. It asks for the
// records only if an account needs them, or if their places decide which accounts are needed.
func (a Accounts) Prepare(ctx context.Context, records func() []TXT) error {
	if !a.Zoned() {
		needed, err := a.preparers()
		if err != nil || !needed {
			return err
		}
	}
	shares, err := a.Divide(records())
	problems := []error{err}
	for _, share := range shares {
		problems = append(problems, share.prepare(ctx))
	}
	return errors.Join(problems...)
}

// preparers reports whether an account needs something before an order.
func (a Accounts) preparers() (needed bool, err error) {
	for _, account := range a {
		solver, err := account.Solver()
		if err != nil {
			return false, err
		}
		if _, yes := solver.(Preparer); yes {
			needed = true
		}
	}
	return needed, nil
}

// uncovered is the error for records that no account makes.
func uncovered(records []TXT) *Error {
	var places []string
	for _, r := range records {
		if text := fmt.Sprintf("%s (zone %s)", resolve.PlainName(r.Name), resolve.PlainName(r.Zone)); !slices.Contains(places, text) {
			places = append(places, text)
		}
	}
	const most = 5
	more := ""
	if len(places) > most {
		more = fmt.Sprintf(" and %d more", len(places)-most)
		places = places[:most]
	}
	return &Error{What: strings.Join(places, ", ") + more, Reason: "in none of dns.zones, and there is no dns.provider for the other names", ErrKind: "dns-config",
		NextStep: "add the zone to dns.zones with its account, or set dns.provider"}
}

// Heirs returns the accounts that may remove records which the account of a zone at a provider has made, the likeliest first: that
// account; and the one that would make the records now, if it is at the same provider, because the configuration may have changed.
func (a Accounts) Heirs(zone, provider string, place resolve.Place) []Account {
	var heirs []Account
	same := func(account Account) bool { return canonical(account.Provider) == canonical(provider) }
	for _, account := range a {
		if account.Zone == zone && same(account) {
			heirs = append(heirs, account)
		}
	}
	if now, found := a.Of(place); found && now.Zone != zone && same(now) {
		heirs = append(heirs, now)
	}
	return heirs
}

// Share is the records that one account makes.
type Share struct {
	Account
	Records []TXT
}

// Present makes the records of the share; see [Solver].
func (s Share) Present(ctx context.Context) error {
	solver, err := s.Solver()
	if err != nil {
		return err
	}
	return s.named(solver.Present(ctx, s.Records))
}

// CleanUp removes the records of the share; see [Solver].
func (s Share) CleanUp(ctx context.Context) error {
	solver, err := s.Solver()
	if err != nil {
		return err
	}
	return s.named(solver.CleanUp(ctx, s.Records))
}

func (s Share) prepare(ctx context.Context) error {
	solver, err := s.Solver()
	if err != nil {
		return err
	}
	if preparer, ok := solver.(Preparer); ok {
		return s.named(preparer.Prepare(ctx, s.Records))
	}
	return nil
}

// Check asks whether the account could make the records, if it can find that out (see [Checker]). proof says in words what that has shown;
// "" if nothing was tested.
func (s Share) Check(ctx context.Context) (proof string, err error) {
	solver, err := s.Solver()
	if err != nil {
		return "", err
	}
	checker, ok := solver.(Checker)
	if !ok {
		return "", nil
	}
	return checker.Checked(), s.named(checker.Check(ctx, s.Records))
}

// Sequential asks whether the records have to be proven one after another; see [Sequencer].
func (s Share) Sequential() (interval time.Duration, yes bool) {
	solver, err := s.Solver()
	if err != nil {
		return 0, false
	}
	return Sequential(solver)
}

// Domains lists the names that the share proves, each once.
func (s Share) Domains() []string {
	var domains []string
	for _, r := range s.Records {
		if !slices.Contains(domains, r.Domain) {
			domains = append(domains, r.Domain)
		}
	}
	return domains
}

// Check asks the account of a record whether it could make it, if the provider can find that out (see [Checker]).
func (a Accounts) Check(ctx context.Context, record TXT) error {
	shares, err := a.Divide([]TXT{record})
	for _, share := range shares {
		_, err = share.Check(ctx)
	}
	return err
}

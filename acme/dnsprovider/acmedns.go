package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	legoacmedns "github.com/go-acme/lego/v4/providers/dns/acmedns"

	"mxcert/acme/resolve"
)

// acmeDNS is lego's provider for acme-dns (https://github.com/joohoi/acme-dns), which keeps the records of each name below a name of its
// own. A person makes _acme-challenge.NAME an alias (CNAME) of that name, once. lego names the alias only when it registers the account;
// acmeDNS names it each time until it is there, and it looks at the file of the accounts before it registers one.
type acmeDNS struct {
	*lego
	accounts  accountStorage
	construct func() (*lego, error)
}

func newACMEDNS(description Description, construct constructor, env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	again := func() (*lego, error) {
		s, err := newLego("acme-dns", description, construct, env, resolver)
		if err != nil {
			return nil, err
		}
		return s.(*lego), nil //nolint:forcetypeassert // newLego makes nothing else
	}
	s, err := again()
	if err != nil {
		return nil, err
	}
	return &acmeDNS{lego: s, accounts: storageOf(env), construct: again}, nil
}

// Prepare registers an account for each name that has none, and returns an error with all aliases that have to be made.
func (s *acmeDNS) Prepare(ctx context.Context, records []TXT) error {
	if err := s.accounts.usable(); err != nil {
		return err
	}
	missing, wrong, err := s.compare(ctx, records)
	if err == nil && len(missing) > 0 {
		wrong, err = s.register(ctx, missing, records)
	}
	if err != nil {
		return err
	}
	return aliasesWanted(wrong)
}

// Check is Prepare, but registers nothing: a name without an account is an error.
func (s *acmeDNS) Check(ctx context.Context, records []TXT) error {
	if err := s.accounts.usable(); err != nil {
		return err
	}
	missing, wrong, err := s.compare(ctx, records)
	if err != nil {
		return err
	}
	var problems []error
	if len(missing) > 0 {
		problems = append(problems, &Error{Provider: s.name, Op: "create", What: recordsText(missing), ErrKind: "dns-config", Reason: "there is no account yet in " + s.accounts.String(),
			NextStep: "mxcert renew registers an account for each name, and names the aliases that you have to make"})
	}
	return errors.Join(append(problems, aliasesWanted(wrong))...)
}

// Checked says what Check has found out.
func (s *acmeDNS) Checked() string {
	return "has an account for every name, and the alias at every name leads to it"
}

// Present makes the records if all aliases are there.
func (s *acmeDNS) Present(ctx context.Context, records []TXT) error {
	s.made.plan(records) // CleanUp follows in any case
	if err := s.Prepare(ctx, records); err != nil {
		return err
	}
	return s.lego.Present(ctx, records)
}

// alias is a name whose record is not where its account is.
type alias struct {
	TXT
	target string // name of the account
}

// compare looks up the account of each name. missing have none, and the place of wrong ones is not that of their account.
func (s *acmeDNS) compare(ctx context.Context, records []TXT) (missing []TXT, wrong []alias, err error) {
	var seen []string
	for _, r := range records {
		if slices.Contains(seen, r.Domain) {
			continue // a wildcard and its apex
		}
		seen = append(seen, r.Domain)
		target, known, err := s.accounts.find(ctx, r.Domain)
		switch {
		case err != nil:
			return nil, nil, err
		case !known:
			missing = append(missing, r)
		case !strings.EqualFold(resolve.PlainName(r.Name), resolve.PlainName(target)):
			wrong = append(wrong, alias{r, resolve.PlainName(target)})
		}
	}
	return missing, wrong, nil
}

// register makes an account for the domain of each record that has none, and compares all records with their accounts again. lego's provider
// knows the accounts that were stored when it was made, and writes them all, so another one is made when no other Solver of this process is
// between the two. It truncates the file first: who compares meanwhile finds no account.
func (s *acmeDNS) register(ctx context.Context, missing, records []TXT) (wrong []alias, err error) {
	release, err := legoTurns.take(ctx, "accounts "+s.accounts.String(), 0)
	if err != nil {
		return nil, err
	}
	defer release()
	fresh, err := s.construct()
	if err != nil {
		return nil, err
	}
	s.provider = fresh.provider
	for _, r := range missing {
		if _, known, err := s.accounts.find(ctx, r.Domain); err != nil || known { // another Solver was faster
			if err != nil {
				return nil, err
			}
			continue
		}
		r.Name = "_acme-challenge." + r.Domain + "." // under the domain's own name
		err := s.call(ctx, "register an account for", r, func(domain, token, keyAuth string) error {
			err := s.provider.Present(domain, token, keyAuth)
			if _, wanted := errors.AsType[legoacmedns.ErrCNAMERequired](err); wanted {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	_, wrong, err = s.compare(ctx, records)
	return wrong, err
}

// aliasesWanted returns an error that names every alias that has to be made; nil if there is none.
func aliasesWanted(wrong []alias) error {
	if len(wrong) == 0 {
		return nil
	}
	var records []TXT
	var lines, wanted []string
	for _, a := range wrong {
		owner, found := "_acme-challenge."+a.Domain, "there is no alias"
		if place := resolve.PlainName(a.Name); place != owner {
			found = "its alias leads to " + place
		}
		records = append(records, a.TXT)
		lines = append(lines, fmt.Sprintf("%s has to be an alias of %s, and %s", owner, a.target, found))
		wanted = append(wanted, fmt.Sprintf("%s. CNAME %s.", owner, a.target))
	}
	return &Error{Provider: "acme-dns", Op: "create", What: recordsText(records), ErrKind: "dns-config", Reason: strings.Join(lines, "; "),
		NextStep: "add to the DNS zone, then run mxcert renew: " + strings.Join(wanted, "  ")}
}

// recordsText names records in an error, by the challenge's own name.
func recordsText(records []TXT) string {
	var names []string
	for _, r := range records {
		names = append(names, "_acme-challenge."+r.Domain)
	}
	if len(names) == 1 {
		return "TXT record " + names[0]
	}
	return "TXT records " + strings.Join(names, ", ")
}

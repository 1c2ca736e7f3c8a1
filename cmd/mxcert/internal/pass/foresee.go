package pass

import (
	"context"
	"errors"
	"slices"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/preflight"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
)

// foresee finds out whether the order of this pass is certain to fail. The error says for which optional names, if the others could be
// ordered.
func (p *pass) foresee(ctx context.Context, accounts dnsprovider.Accounts) error {
	err := acme.Blocked(p.findings(ctx, p.resolver, p.names, true))
	if optional := p.optional(); err != nil && len(optional) > 0 && ctx.Err() == nil {
		// No name is dropped on one answer: another resolver remembers nothing of it.
		second := p.want.Resolver()
		if required := acme.Blocked(p.findings(ctx, second, p.want.Required(), false)); required != nil {
			return report.At(stageOf(required), required)
		}
		if bad := p.blocked(ctx, second, optional); len(bad) > 0 {
			return joined(bad)
		}
	}
	if err != nil {
		return report.At(stageOf(err), err)
	}
	prepare := func(names ...string) error {
		return accounts.Prepare(ctx, func() []dnsprovider.TXT { return dnsprovider.Challenges(ctx, p.resolver, names) })
	}
	if err = prepare(p.names...); err == nil {
		return nil
	}
	var bad []*acme.NameError
	if len(p.optional()) > 0 && prepare(p.want.Required()...) == nil {
		for _, name := range p.optional() {
			if err := prepare(name); err != nil {
				bad = append(bad, &acme.NameError{Name: name, Denied: refusesName(err), Cause: err})
			}
		}
	}
	if len(bad) > 0 {
		return joined(bad)
	}
	return report.At("dns", err)
}

// refusesName reports whether an error of a DNS account is about the name. That an account cannot be set up says nothing about a name.
func refusesName(err error) bool {
	e, ok := errors.AsType[*dnsprovider.Error](err)
	return ok && e.Op != "set up" && !report.IsTemporary(err)
}

// optional returns the optional names of the orders of this pass.
func (p *pass) optional() []string {
	return slices.DeleteFunc(slices.Clone(p.names), func(name string) bool { return !p.want.IsOptional(name) })
}

func joined(bad []*acme.NameError) error {
	all := make([]error, len(bad))
	for i, e := range bad {
		all[i] = e
	}
	return report.At("preflight", errors.Join(all...))
}

// findings runs the preflight for some names. If tell is set, it warns of what may go wrong.
func (p *pass) findings(ctx context.Context, resolver *resolve.Resolver, names []string, tell bool) []finding.Finding {
	found := p.CAs.Preflight(ctx, preflight.Request{Names: names, Profile: p.want.Profile, Resolver: resolver, Require: p.want.Require})
	for _, f := range found {
		if f.Severity == finding.Warning && tell {
			p.warn(f.Message)
		}
	}
	return found
}

// blocked lists the names for which the preflight is certain that an order would fail, each judged alone. It halves the list until it has
// them, because most are good.
func (p *pass) blocked(ctx context.Context, resolver *resolve.Resolver, names []string) []*acme.NameError {
	found := slices.DeleteFunc(p.findings(ctx, resolver, names, false), func(f finding.Finding) bool { return f.ID == "profile" })
	err := acme.Blocked(found)
	switch {
	case err == nil || len(names) == 0:
		return nil
	case len(names) == 1:
		return []*acme.NameError{{Name: names[0], Denied: true, Cause: err}}
	}
	half := len(names) / 2
	return append(p.blocked(ctx, resolver, names[:half]), p.blocked(ctx, resolver, names[half:])...)
}

// forbidden lists the names whose records the DNS provider would not create, if it can tell.
func (p *pass) forbidden(ctx context.Context, names []string) (bad []*acme.NameError) {
	accounts := p.want.Accounts(p.resolver)
	for _, record := range dnsprovider.Challenges(ctx, p.resolver, names) {
		err := accounts.Check(ctx, record)
		if err == nil {
			continue
		}
		for _, name := range names {
			if name == record.Domain || name == "*."+record.Domain {
				bad = append(bad, &acme.NameError{Name: name, Denied: dnsprovider.Refused(err), Cause: err})
			}
		}
	}
	return bad
}

package dane

import (
	"context"
	"fmt"

	"mxcert/acme/resolve"
)

// Locate finds where the records of an owner that was looked at have to be published: at the end of its aliases, those of wildcards included,
// because senders follow them. The error says what to do.
//
// A record at a name whose records come from a wildcard would hide them (RFC 4592 section 2.2.1), so that is an error.
func Locate(ctx context.Context, r *resolve.Resolver, v View) (Place, error) {
	if v.Err != nil {
		return Place{}, v.Err
	}
	if len(v.Steps) == 0 {
		return Place{}, lookError{"nobody has looked at " + v.Owner.Name(), "look again"}
	}
	last := v.Steps[len(v.Steps)-1]
	name := resolve.PlainName(last.Name)
	for i, a := range last.Served.Answers {
		switch {
		case last.Ignored[i]:
		case a.Alias != "":
			return Place{}, lookError{fmt.Sprintf("the servers of %s do not agree whether it is an alias (CNAME)", name), "wait until all of them have the same zone, or remove the alias"}
		case a.Wildcard && len(a.Records) > 0:
			return Place{}, wildcardError(name)
		}
	}
	found, err := r.Locate(ctx, last.Name)
	if err != nil {
		return Place{}, err
	}
	if found.Zone != last.Served.Zone || found.Name != last.Name {
		// Locate does not follow the alias of a wildcard, and the look has.
		return Place{}, lookError{fmt.Sprintf("%s has changed its place since the look: it was in the zone %s, and is now at %s", name, resolve.PlainName(last.Served.Zone), resolve.PlainName(found.Name)), "look again"}
	}
	if wild, err := fromWildcard(ctx, r, last); err != nil {
		return Place{}, err
	} else if wild {
		return Place{}, wildcardError(name)
	}
	return Place{Zone: found.Zone, Name: found.Name, Primary: found.Primary}, nil
}

// fromWildcard reports whether the records of a name may be those of a wildcard, if no signature says it: a name below it has some, too. If
// the name itself exists, a wildcard above covers nothing below it (RFC 4592 section 3.3.1).
func fromWildcard(ctx context.Context, r *resolve.Resolver, last Step) (bool, error) {
	gives := false
	for _, a := range last.Served.Answers {
		gives = gives || len(a.Records) > 0 && a.Signature != resolve.Signed
	}
	below := "mxcert-check." + last.Name
	if !gives || len(below) > 254 {
		return false, nil
	}
	served, err := r.ServedTLSA(ctx, below)
	if err != nil {
		return false, err
	}
	for _, a := range served.Answers {
		if len(a.Records) > 0 || a.Alias != "" {
			return true, nil
		}
	}
	return false, nil
}

func wildcardError(name string) error {
	return lookError{
		fmt.Sprintf("the TLSA records of %s are those of a wildcard (*), and a record at the name itself would hide them from senders", name),
		fmt.Sprintf("publish the same records at %s itself, wait for twice their TTL, and mxcert goes on; or take mode gate, and change the wildcard by hand", name),
	}
}

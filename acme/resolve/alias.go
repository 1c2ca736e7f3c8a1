package resolve

import (
	"context"

	"github.com/miekg/dns"
)

// alias is one CNAME record.
type alias struct {
	owner, target string // canonical
}

// LookAlias asks for the CNAME record of a name itself. Its state is that of the alias alone, whatever it leads to (RFC 7672 section 2.2.2).
//
// A CNAME record that follows from a DNAME record has no signature, and resolvers (Unbound 1.17) take it for bogus if they are asked for it
// alone. Its state is then that of the DNAME record.
func (r *Resolver) LookAlias(ctx context.Context, name string) Set[string] {
	found := look(ctx, r, name, dns.TypeCNAME, func(rr *dns.CNAME) (string, bool) { return PlainName(dns.CanonicalName(rr.Target)), true })
	if found.State != Bogus {
		return found
	}
	owner := dns.CanonicalName(name)
	for above := parentName(owner); above != "."; above = parentName(above) {
		tree := look(ctx, r, above, dns.TypeDNAME, func(rr *dns.DNAME) (string, bool) {
			return PlainName(below(owner, above, dns.CanonicalName(rr.Target))), true
		})
		if len(tree.Records) > 0 && tree.Final == PlainName(above) {
			tree.Name, tree.Type, tree.Final = found.Name, found.Type, found.Final
			return tree
		}
	}
	return found
}

// aliasesIn walks the CNAME records of one answer whose owners are below the bailiwick. end is the name to which they lead, or
// the owner; "" means a loop.
func aliasesIn(answer *dns.Msg, owner, bailiwick string, seen map[string]bool) (aliases []alias, end string) {
	for {
		next := ""
		if dns.IsSubDomain(bailiwick, owner) {
			next = aliasOf(answer, owner)
		}
		if next == "" {
			return aliases, owner
		}
		aliases = append(aliases, alias{owner: owner, target: next})
		if seen[next] {
			return aliases, ""
		}
		seen[owner], seen[next] = true, true
		owner = next
	}
}

// followAliases returns only the end of aliasesIn, for an answer whose CNAME records can all be trusted.
func followAliases(answer *dns.Msg, owner string) string {
	_, end := aliasesIn(answer, owner, ".", map[string]bool{})
	return end
}

// aliasOf returns the target of the CNAME record of a name in an answer; "" if there is none.
func aliasOf(answer *dns.Msg, owner string) (target string) {
	for _, rr := range answer.Answer {
		if cname, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(cname.Hdr.Name) == owner {
			target = dns.CanonicalName(cname.Target)
		}
	}
	return target
}

// fromWildcard reports whether a server made a CNAME record from a wildcard, because the owner does not exist.
//
// It asks for a name below the owner. If the owner exists, the wildcard does not cover names below it (RFC 4592 section 3.3.1);
// if not, the server answers with the same CNAME. A CNAME that follows from a DNAME record leads to a name below the target.
func (r *Resolver) fromWildcard(ctx context.Context, a alias) (bool, error) {
	below := "mxcert-check." + a.owner
	if len(below) > 254 {
		return false, nil // no server can be asked: the record is followed
	}
	answer, bailiwick, err := r.askAbout(ctx, below)
	if err != nil {
		return false, err
	}
	return dns.IsSubDomain(bailiwick, below) && aliasOf(answer, below) == a.target, nil
}

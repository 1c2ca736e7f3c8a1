package resolve

import (
	"context"
	"slices"

	"github.com/miekg/dns"
)

// Absent reports whether none of the values is at a name any more. It asks every authoritative server, because a resolver may
// remember an older answer. The error is an *Error if one of them does not answer for the zone, or the context's.
func (r *Resolver) Absent(ctx context.Context, record TXT) (bool, error) {
	d, err := r.Delegation(ctx, record.Zone)
	if err != nil {
		return false, err
	}
	asked := 0
	for _, server := range d.Servers {
		question := direct(record.Name, dns.TypeTXT)
		answer, err := r.exchange(ctx, question, server.Address)
		switch {
		case unreachable(err):
			continue
		case endOf(ctx) != nil:
			return false, endOf(ctx)
		case err != nil || answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
			return false, questionError(question, server.Address, answer, err)
		case !answer.Authoritative:
			return false, &Error{Name: record.Name, Type: "TXT", Server: server.Address, Reason: "it is not a server of this zone (lame delegation)"}
		}
		asked++
		served := txtValues(answer, record.Name)
		if slices.ContainsFunc(record.Values, func(value string) bool { return slices.Contains(served, value) }) {
			return false, nil
		}
	}
	return asked > 0, nil
}

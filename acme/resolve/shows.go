package resolve

import (
	"context"
	"slices"

	"github.com/miekg/dns"
)

// Shows reports whether a TXT record with this value can be seen at a name, through the recursive resolvers.
func (r *Resolver) Shows(ctx context.Context, name, value string) (bool, error) {
	answer, err := r.Ask(ctx, name, dns.TypeTXT)
	if err != nil {
		return false, err
	}
	return slices.Contains(txtValues(answer, name), value), nil
}

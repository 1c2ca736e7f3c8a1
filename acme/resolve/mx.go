package resolve

import (
	"context"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// MX looks up the mail exchangers of a domain, the most preferred first (RFC 5321 section 5.1), as host names without the
// final dot. For a domain without MX records, or with a null MX (RFC 7505), it returns an empty list.
func (r *Resolver) MX(ctx context.Context, domain string) ([]string, error) {
	answer, err := r.Ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	var records []*dns.MX
	for _, rr := range answer.Answer {
		if mx, ok := rr.(*dns.MX); ok && mx.Mx != "." {
			records = append(records, mx)
		}
	}
	slices.SortStableFunc(records, func(a, b *dns.MX) int { return int(a.Preference) - int(b.Preference) })
	var hosts []string
	for _, mx := range records {
		if host := strings.TrimSuffix(dns.CanonicalName(mx.Mx), "."); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

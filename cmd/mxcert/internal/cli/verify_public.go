package cli

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"mxcert/deploy/mx"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/wanted"
)

// publicSight is what senders see of the mail domains of own certificates.
type publicSight struct {
	sight
	ours     func(netip.Addr) bool
	rootless map[string]bool // domains of certificates for which no roots are configured
}

// lookAtMailDomains looks at all that senders of mail to the mail domains of own certificates meet, each domain once. Its hosts that are this
// one are looked at on the other ports of mail, too.
func lookAtMailDomains(ctx context.Context, wants []wanted.Certificate, task verifyTask) publicSight {
	public := publicSight{ours: ours(nil), rootless: map[string]bool{}}
	var domains []string
	var options []survey.Options
	for _, want := range wants {
		for _, domain := range want.MailDomains {
			if slices.Contains(domains, domain) {
				continue
			}
			o := ownOptions(want, task)
			o.Ours, o.Ports = ours(want.PublicAddresses), want.MailPorts()
			public.ours, public.rootless[domain] = o.Ours, o.Roots == nil
			domains, options = append(domains, domain), append(options, o)
		}
	}
	parts := make([]sight, len(domains))
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	for i, domain := range domains {
		group.Go(func() error {
			d, hosts := survey.LookAtDomain(ctx, domain, options[i])
			parts[i] = sight{domains: []survey.Domain{d}, hosts: hosts}
			return nil
		})
	}
	_ = group.Wait() // what failed is in what was seen
	public.sight = joined(parts)
	return public
}

// ours reports which addresses are those of this host. What could not be read is not ours: then fewer handshakes are made.
func ours(public []netip.Addr) func(netip.Addr) bool {
	own, err := mx.Own(public)
	if err != nil {
		own = public
	}
	return func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) }
}

// forgive says of an unknown root of an own certificate that it does not count, as at own endpoints.
func (s publicSight) forgive(r *verifyReport) {
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if address, err := netip.ParseAddr(h.Address); err == nil && s.ours(address) && s.rootless[h.Domain] && onlyUnknownRoot(h.Findings) {
			forgiveRoot(h.Verdicts)
		}
	}
	for _, d := range r.Domains {
		counted := func(h hostReport) bool {
			return h.Domain == d.Domain && h.Verdicts[verdict.PKIX].Result == verdict.Fail && h.Verdicts[verdict.PKIX].NotCounted == ""
		}
		if s.rootless[d.Domain] && !slices.ContainsFunc(r.Hosts, counted) {
			forgiveRoot(d.Verdicts)
		}
	}
}

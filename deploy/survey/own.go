package survey

import (
	"context"
	"net/netip"
	"sync"

	"mxcert/deploy/verdict"
)

// LookAtEndpoint looks at one address and port of a host of ours, wherever the DNS says that the host is: senders reach the same server at
// its public address. It makes all handshakes.
func LookAtEndpoint(ctx context.Context, name string, at netip.AddrPort, o Options) Host {
	o.Port, o.Ports, o.Ours = int(at.Port()), nil, func(netip.Addr) bool { return true }
	s := newSurvey(o)
	h := &host{route: verdict.Route{Host: name}, own: true, most: mostAddresses, bases: make(chan struct{})}
	s.resolve(ctx, h)
	e := &endpoint{address: at.Addr().Unmap(), port: o.Port}
	h.endpoints = []*endpoint{e}
	var both sync.WaitGroup
	both.Go(func() {
		defer close(h.bases)
		h.route.Bases = s.tlsa(ctx, h)
	})
	both.Go(func() {
		s.announce(&host{addresses: []netip.Addr{e.address}})
		s.look(ctx, h, e)
	})
	both.Wait()
	return s.judge([]*host{h})[0]
}

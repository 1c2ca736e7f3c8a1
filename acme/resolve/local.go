package resolve

import (
	"context"
	"net"
	"net/netip"
)

// AsThisHost returns the addresses of a name as this host itself connects to it: from /etc/hosts and whatever else its own resolver asks. It
// is for names that the operator has written for this host alone, such as an endpoint localhost. What senders find, the other
// functions say.
func AsThisHost(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	for i, a := range list {
		list[i] = a.Unmap()
	}
	return list, err
}

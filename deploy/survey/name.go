package survey

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// asciiName returns a name as DNS has it: A-labels (RFC 5891), lower case, without the final dot. What is no international name stays as it
// is; then DNS says that it does not exist.
func asciiName(name string) string {
	name = strings.TrimSuffix(strings.TrimSpace(name), ".")
	if ascii, err := idna.New(idna.MapForLookup(), idna.BidiRule()).ToASCII(name); err == nil {
		name = ascii
	}
	return strings.ToLower(name)
}

// literal returns the address that a name is, because somebody wrote an address where a name belongs.
func literal(name string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return address.Unmap(), err == nil
}

package resolve

import "net/netip"

// Server is one address of one authoritative server.
type Server struct {
	Host    string // host name from the NS record, without the final dot
	Address string // "address:port"
	Only    string // "zone", "parent" or "glue" if only that side names it; "" if both do or one is unknown
}

// String returns what progress and errors show.
func (s Server) String() string {
	text := s.Host + " [" + s.Address + "]"
	switch s.Only {
	case "parent":
		text += " (named only by the parent zone)"
	case "glue":
		text += " (an address that only the parent zone has)"
	}
	return text
}

// Family returns IPv4 or IPv6.
func (s Server) Family() string {
	if a, err := netip.ParseAddrPort(s.Address); err == nil && a.Addr().Unmap().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

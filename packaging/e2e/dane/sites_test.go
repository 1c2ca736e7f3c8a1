package dane

import (
	"fmt"
	"strings"

	"mxcert/packaging/e2e/world"
)

// A site is a mail domain with a zone, an address of the mail host and a certificate of its own.
type site struct {
	name     string // of the certificate; the domain is NAME.test
	service  string // what serves the zone: bind, knot, pdns
	signing  string // of BIND: dynamic or inline; of Knot: later, for a signer that looks every eight seconds at what BIND took, unsigned
	nsec3    bool
	kinds    []string // key types
	hosts    []string // below the domain; the first is its MX host
	ports    []int
	backend  string // dane.publisher of the configuration; gate is mode gate, hand is no mxcert at all
	hold     string // dane.hold
	slow     bool   // its senders use a resolver with a minimum TTL that answers with expired data
	dane     string // more lines of the section
	ttl      int    // of records that the test writes
	number   int    // of its address
	extra    string // more lines of its zone
	onlyMain bool   // no secondaries
	like     *site  // another site, whose zone and names it has: a second instance for them
	unsent   bool   // nobody sends mail to it: the checker alone judges
	zoneOnly bool   // there is a zone, and no mail host: it is part of another site
}

// fill sets what a site does not say.
func (s *site) fill(number int) {
	s.number = number
	if s.service == "" {
		s.service = "bind"
	}
	if s.signing == "" {
		s.signing = "dynamic"
	}
	if s.kinds == nil {
		s.kinds = []string{"ec256"}
	}
	if s.hosts == nil {
		s.hosts = []string{"mx"}
	}
	if s.ports == nil {
		s.ports = []int{25}
	}
	if s.backend == "" {
		s.backend = "rfc2136"
	}
	if s.hold == "" {
		s.hold = "0s"
	}
	if s.ttl == 0 {
		s.ttl = 2
	}
}

func (s *site) domain() string {
	if s.like != nil {
		return s.like.domain()
	}
	return s.name + ".test"
}

// address is where the mail host serves the certificate of the site.
func (s *site) address() string { return fmt.Sprintf("198.51.100.%d", 100+s.number) }

// names are the names of the certificate.
func (s *site) names() (names []string) {
	for _, h := range s.hosts {
		names = append(names, h+"."+s.domain())
	}
	return names
}

// ownersAt are where senders find the records of a port.
func (s *site) ownersAt(port int) (owners []string) {
	for _, n := range s.names() {
		owners = append(owners, fmt.Sprintf("_%d._tcp.%s", port, n))
	}
	return owners
}

func (s *site) owners() (owners []string) {
	for _, p := range s.ports {
		owners = append(owners, s.ownersAt(p)...)
	}
	return owners
}

// servers are the addresses of the zone's name servers, the primary first.
func (s *site) servers() []string {
	primary := map[string]string{"bind": bindPrimary, "knot": knotPrimary, "pdns": pdnsPrimary}[s.service]
	switch {
	case s.onlyMain:
		return []string{primary}
	case s.service == "bind":
		return []string{primary, lateSecondary, promptSecondary}
	}
	return []string{primary, lateSecondary}
}

// updates is the address of the server that takes updates.
func (s *site) updates() string {
	if s.signing == "later" {
		return bindPrimary
	}
	return s.servers()[0]
}

// file is the path of a file of the mail host with the key and the chain of one type.
func (s *site) file(kind string) string {
	return "/var/lib/mxcert-keys/" + s.name + "." + kind + ".pem"
}

// sniMap is where mxcert says which files Exim uses. They have the serial number in their names, so that Exim never opens two of them that do not
// belong together.
func (s *site) sniMap() string { return "/var/lib/mxcert-keys/" + s.name + ".map" }

// zoneFile is the zone before it is signed.
func (s *site) zoneFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s.\n$TTL 60\n@ SOA ns1 hostmaster 1 2 1 86400 2\n", s.domain())
	for i, address := range s.servers() {
		fmt.Fprintf(&b, "@ NS ns%[1]d\nns%[1]d A %[2]s\n", i+1, address)
	}
	fmt.Fprintf(&b, "@ MX 10 %s\n", s.hosts[0])
	for _, h := range s.hosts {
		fmt.Fprintf(&b, "%s A %s\n", h, s.address())
	}
	return b.String() + s.extra
}

// delegation is the zone as the world delegates it.
func (s *site) delegation() world.Zone {
	return world.Zone{Name: s.domain(), Servers: s.servers(), Elsewhere: true}
}

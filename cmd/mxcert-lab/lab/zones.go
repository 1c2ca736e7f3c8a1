package lab

import (
	"fmt"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

// fillZones adds the zones and the key that may update them.
func (l *Lab) fillZones() error {
	servers := []string{"@ NS ns1.example.org."}
	addresses := []string{"ns1 A 127.0.0.1"}
	for i := range l.Secondaries {
		servers = append(servers, fmt.Sprintf("@ NS ns%d.example.org.", i+2))
		addresses = append(addresses, fmt.Sprintf("ns%d A 127.0.0.%d", i+2, i+2))
	}
	hosts := append(addresses, "mx A 127.0.0.1", "host7 A 127.0.0.1", "@ MX 10 mx")
	if err := l.World.AddZone(Zone, append(hosts, servers...)...); err != nil {
		return err
	}
	if err := l.World.AddZone(OtherZone, append(servers, "mail A 127.0.0.1", "@ MX 10 mx.example.org.")...); err != nil {
		return err
	}
	if l.opts.Signed {
		if err := l.sign(); err != nil {
			return err
		}
	}
	l.secret = newSecret()
	return l.World.AddKey(KeyName, keyAlgorithm, l.secret)
}

// sign signs the zones, and a root that says of all other names that they do not exist: a resolver is known to validate by its answer about
// the root.
func (l *Lab) sign() error {
	if err := l.World.AddZone(".", "@ NS ns1.example.org."); err != nil {
		return err
	}
	for _, zone := range []string{".", Zone, OtherZone} {
		if err := l.World.Sign(zone, nameserver.Signing{}); err != nil {
			return err
		}
	}
	return nil
}

// setDNSFaults gives each name server the faults that the options ask for.
func (l *Lab) setDNSFaults() {
	l.Primary.SetFaults(nameserver.Faults{Lag: l.opts.DNSLag})
	for _, secondary := range l.Secondaries {
		secondary.SetFaults(nameserver.Faults{Lag: l.opts.DNSLag, UpdateRcode: dns.RcodeRefused})
	}
}

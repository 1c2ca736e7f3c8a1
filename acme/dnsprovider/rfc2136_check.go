package dnsprovider

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/miekg/dns"
)

// Checker is a [Solver] that can find out whether it would be let do its work, without changing anything.
type Checker interface {
	// Check asks for each zone of the records whether the records could be made. Only their places and domains count.
	Check(ctx context.Context, records []TXT) error
}

// Check sends an update that the server accepts as it would accept the real one, and that changes nothing: its
// prerequisite cannot hold (RFC 2136 section 3.2), and all that it asks for is to delete values that are not there. A
// server that knows the key and lets it change the zone answers NXDOMAIN or NXRRSET for the prerequisite.
func (s *rfc2136) Check(ctx context.Context, records []TXT) error {
	var zones []string
	for _, r := range records {
		if !slices.Contains(zones, r.Zone) {
			zones = append(zones, r.Zone)
		}
	}
	var problems []error
	for _, zone := range zones {
		var mine []TXT
		for _, r := range records {
			if r.Zone == zone {
				mine = append(mine, r)
			}
		}
		problems = append(problems, s.checkZone(ctx, zone, mine))
	}
	return errors.Join(problems...)
}

func (s *rfc2136) checkZone(ctx context.Context, zone string, records []TXT) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	value := "mxcert-check-" + hex.EncodeToString(random[:])
	message := new(dns.Msg).SetUpdate(zone)
	message.NameUsed([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: value + "." + records[0].Name}}})
	var domains []string
	for _, r := range records {
		r.Value = value
		message.Remove([]dns.RR{s.txt(r)})
		domains = append(domains, r.Domain)
	}
	return s.send(ctx, "change", what(zone, domains), zone, records[0].Primary, message, dns.RcodeNameError, dns.RcodeNXRrset)
}

package dnsprovider

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"mxcert/acme/dnsupdate"
	"mxcert/acme/resolve"
)

const defaultTTL = 60

// rfc2136 sends dynamic updates: one message a zone, which adds or removes exactly the given values, so that a wildcard and its
// apex, and other records at the same name, do not disturb each other. See package dnsupdate.
type rfc2136 struct {
	client   dnsupdate.Client
	resolver *resolve.Resolver
	ttl      uint32
	refused  map[string]bool // records that the server refused to create, by recordKey
}

func newRFC2136(env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !isVariable(name) {
			return nil, setupError(name, "this provider has no such variable", "`mxcert providers rfc2136` lists them")
		}
	}
	s := &rfc2136{resolver: resolver, ttl: defaultTTL, refused: map[string]bool{}}
	if text := cmp.Or(env["DNSUPDATE_TTL"], env["RFC2136_TTL"]); text != "" {
		ttl, err := strconv.Atoi(text)
		if err != nil || ttl < 1 || ttl > 86400 {
			return nil, setupError("DNSUPDATE_TTL", fmt.Sprintf("%.40q is not a number of seconds from 1 to 86400", text), "correct the value")
		}
		s.ttl = uint32(ttl)
	}
	var err error
	if s.client, err = dnsupdate.New(env); err != nil {
		if e, ok := errors.AsType[*dnsupdate.Error](err); ok {
			err = setupError(e.Subject, e.Reason, e.Hint())
		}
		return nil, err
	}
	return s, nil
}

// isVariable recognizes the provider's variables, by their new and their old prefix. It accepts lego's waiting times, so that
// lego's settings can be taken over; dns.propagation says how long to wait.
func isVariable(name string) bool {
	short, found := strings.CutPrefix(name, "DNSUPDATE_")
	if !found {
		short, found = strings.CutPrefix(name, "RFC2136_")
	}
	switch short {
	case "NAMESERVER", "TSIG_KEY", "TSIG_SECRET", "TSIG_ALGORITHM", "TSIG_FILE", "TTL", "DNS_TIMEOUT",
		"POLLING_INTERVAL", "PROPAGATION_TIMEOUT", "SEQUENCE_INTERVAL":
		return found
	}
	return false
}

func setupError(variable, reason, hint string) *Error {
	return &Error{Provider: "rfc2136", Op: "set up", What: variable, Reason: reason, ErrKind: "dns-config", NextStep: hint}
}

// Present adds the records. If the server refuses, it has created none of the zone, and CleanUp has nothing to do.
func (s *rfc2136) Present(ctx context.Context, records []TXT) error {
	return s.eachZone(records, func(zone []TXT) error {
		err := s.send(ctx, "create", zone, func(c dnsupdate.Client) error {
			return c.Send(ctx, dnsupdate.Update{Zone: zone[0].Zone, Add: s.rrs(zone)})
		})
		e, ok := errors.AsType[*Error](err)
		for _, r := range zone {
			s.refused[recordKey(r)] = ok && e.refused
		}
		return err
	})
}

func recordKey(r TXT) string { return r.Name + " " + r.Value }

// CleanUp removes the records by value.
func (s *rfc2136) CleanUp(ctx context.Context, records []TXT) error {
	records = slices.DeleteFunc(slices.Clone(records), func(r TXT) bool { return s.refused[recordKey(r)] })
	return s.eachZone(records, func(zone []TXT) error {
		return s.send(ctx, "remove", zone, func(c dnsupdate.Client) error {
			return c.Send(ctx, dnsupdate.Update{Zone: zone[0].Zone, Remove: s.rrs(zone)})
		})
	})
}

// Check asks the servers whether they would let the key change these names.
func (s *rfc2136) Check(ctx context.Context, records []TXT) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	records = slices.Clone(records)
	for i := range records {
		records[i].Value = "mxcert-check-" + hex.EncodeToString(random[:])
	}
	return s.eachZone(records, func(zone []TXT) error {
		return s.send(ctx, "change", zone, func(c dnsupdate.Client) error {
			return c.Probe(ctx, zone[0].Zone, s.rrs(zone))
		})
	})
}

// Checked says what Check has found out.
func (s *rfc2136) Checked() string {
	return "accepts the key, and lets it change the records of every name"
}

// eachZone calls f with the records of each zone, in the order of their first ones. It continues with the other zones after a
// failure.
func (s *rfc2136) eachZone(records []TXT, f func([]TXT) error) error {
	var zones []string
	byZone := map[string][]TXT{}
	for _, r := range records {
		if byZone[r.Zone] == nil {
			zones = append(zones, r.Zone)
		}
		byZone[r.Zone] = append(byZone[r.Zone], r)
	}
	var problems []error
	for _, zone := range zones {
		problems = append(problems, f(byZone[zone]))
	}
	return errors.Join(problems...)
}

func (s *rfc2136) rrs(records []TXT) []dns.RR {
	out := make([]dns.RR, len(records))
	for i, r := range records {
		out[i] = &dns.TXT{
			Hdr: dns.RR_Header{Name: r.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: s.ttl},
			Txt: []string{r.Value},
		}
	}
	return out
}

// send finds the server for the records of one zone, and explains what went wrong with it.
func (s *rfc2136) send(ctx context.Context, op string, records []TXT, f func(dnsupdate.Client) error) error {
	client, err := s.clientFor(ctx, records[0].Place)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &Error{Provider: "rfc2136", Op: op, What: what(records), Reason: err.Error(), ErrKind: "dns-unreachable", temporary: true,
			NextStep: "set DNSUPDATE_NAMESERVER to the server that takes updates"}
	}
	err = f(client)
	e, ok := errors.AsType[*dnsupdate.Error](err)
	if !ok {
		return err
	}
	hint := e.Hint()
	if e.Rcode == dns.RcodeNotImplemented || e.Rcode == dns.RcodeFormatError {
		hint += ", or use another provider for this zone (`mxcert providers`)"
	}
	return &Error{Provider: "rfc2136", Op: op, What: what(records), Reason: e.Reason, ErrKind: e.Kind(), temporary: e.Temporary(), refused: e.Refused, NextStep: hint}
}

// clientFor returns the client for the server that takes updates for a zone. The journal does not keep the primary of
// its records.
func (s *rfc2136) clientFor(ctx context.Context, place resolve.Place) (dnsupdate.Client, error) {
	client := s.client
	if client.Server != "" {
		return client, nil
	}
	primary := place.Primary
	if primary == "" {
		found, err := s.resolver.Locate(ctx, place.Zone)
		if err != nil {
			return client, err
		}
		primary = found.Primary
	}
	addresses, err := s.resolver.Addresses(ctx, primary)
	if err != nil {
		return client, err
	}
	client.Server = net.JoinHostPort(addresses[0], "53")
	return client, nil
}

// what names the records of a zone by their domains, so that a person sees a name that is in the wrong zone.
func what(records []TXT) string {
	const most = 3
	domains := Share{Records: records}.Domains() // a wildcard and its apex are one
	names := strings.Join(domains[:min(len(domains), most)], ", ")
	if more := len(domains) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("TXT records for %s in zone %s", names, resolve.PlainName(records[0].Zone))
}

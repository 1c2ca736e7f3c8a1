// Package publish has the services that can hold TLSA records: implementations of [dane.Publisher].
//
//   - rfc2136: dynamic updates with TSIG, each with its conditions (package dnsupdate)
//   - hook: executables in a directory, which get JSON on standard input
//   - powerdns: the HTTP API of the PowerDNS Authoritative Server
//   - desec and cloudflare: the HTTP APIs of hosted DNS with DNSSEC
//
// Package publishtest is the conformance test that each of them passes. It ran against:
//
//	Backend      Proven against
//	rfc2136      the real BIND 9.18, Knot 3.2 and PowerDNS 4.7 (dnsupdate)
//	powerdns     the real PowerDNS Authoritative Server 4.7 with its SQLite backend
//	hook         a real hook that changes the real BIND with nsupdate
//	desec        a server of our own that speaks the documented format, strictly, with its refusals; not the real service
//	cloudflare   a server of our own that speaks the documented format, strictly, with its refusals; not the real service
//
// Services without DNSSEC are no backends: senders use no TLSA records of unsigned zones. The backend cloudflare publishes nothing in a
// zone whose DNSSEC is not active there. No module of libdns is used: libdns has no type for TLSA records, and several modules do not write
// them. deSEC signs every zone. Whether BIND, Knot, PowerDNS or the service behind a hook signs a zone, package dane sees in DNS.
//
// # How records are changed
//
// Each change reads the record set at the service, changes it, and reads it again, until it holds what was asked for. A record set that
// exists keeps its TTL, because others may have records in it; a new one gets the TTL that was asked for, raised or lowered to what the
// service permits. List tells it. A name with a CNAME record is refused: a service either ignores a record beside it, or serves a broken
// zone.
//
// RFC 2136 and Cloudflare change values, so other programs cannot get in the way. PowerDNS and deSEC replace whole record sets, without a
// condition. There, mxcert reads right before it writes, and reads twice afterwards. In PowerDNS it keeps disabled records and comments,
// too. If somebody else has written at the same moment, mxcert adds its records again. It cannot know whether the other program lost a
// record of its own in that moment.
//
// # Hooks
//
// A hook is an executable in the directory hooks/tlsa.d. The rules for its owner and mode are those of all hooks (package script). It gets
// one JSON object on standard input:
//
//	{"action": "add", "zone": "example.org.", "name": "_25._tcp.mx.example.org.", "ttl": 3600, "records": ["3 1 1 0123…"]}
//
// Names are fully qualified, in lower case. The TTL is in seconds. The actions:
//
//	list    answer with the TLSA records at the name, and their TTL (0 without records)
//	add     add these values and leave others as they are; no error if a value is there already
//	remove  remove these values and leave others as they are; no error if a value is not there
//	probe   change nothing; test whether an add would work, as far as possible
//
// The hook ends with status 0 and answers with one JSON object on standard output, in which every member is optional, except that list
// has to say "records":
//
//	{"records": ["3 1 1 0123…"], "ttl": 3600}
//	{"error": "the zone is locked", "temporary": true}
//
// If there is a CNAME record at the name, list and add have to answer with an error. Status 3 without an answer means that the zone is not
// this hook's: mxcert then asks the next one, in the order of names. Any other status is a failure, as is any other output: a member
// that is not named here, more than 64 KiB, or text around the object. What the hook says on standard error goes into mxcert's messages.
// mxcert asks for list before and after each change. It stops a hook after the configured timeout. A hook runs as the service's user, in its
// sandbox, with an environment of its own.
package publish

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// Settings choose a service: exactly one of the first fields is set.
type Settings struct {
	RFC2136    map[string]string // the variables of package dnsupdate, with their secrets
	Hook       *Hook
	PowerDNS   *API
	DeSEC      *API
	Cloudflare *API

	// Addresses finds the addresses of a zone's primary server, which gets the updates if RFC2136 names no server. It is no service.
	Addresses func(ctx context.Context, host string) ([]string, error)
}

// Hook is a directory with executables.
type Hook struct {
	Directory string
	Timeout   time.Duration // 0: 60 s
}

// API is an account at an HTTP API.
type API struct {
	URL    string       // the beginning of the address; "" for the service's own
	Secret string       // key or token
	Client *http.Client // nil: one with sane limits
}

// New makes a publisher. It connects to nothing. The error is an [*Error], or one of package dnsupdate: it says which setting is wrong.
func New(s Settings) (dane.Publisher, error) {
	var made []func() (service, error)
	if s.RFC2136 != nil {
		made = append(made, func() (service, error) { return newRFC2136(s.RFC2136, s.Addresses) })
	}
	if s.Hook != nil {
		made = append(made, func() (service, error) { return newHook(*s.Hook) })
	}
	if s.PowerDNS != nil {
		made = append(made, func() (service, error) { return newPowerDNS(*s.PowerDNS) })
	}
	if s.DeSEC != nil {
		made = append(made, func() (service, error) { return newDeSEC(*s.DeSEC) })
	}
	if s.Cloudflare != nil {
		made = append(made, func() (service, error) { return newCloudflare(*s.Cloudflare) })
	}
	if len(made) != 1 {
		return nil, configError("the publisher of TLSA records", fmt.Sprintf("%d services are chosen", len(made)), "choose one service in dane.publisher")
	}
	s1, err := made[0]()
	if err != nil {
		return nil, err
	}
	return &publisher{service: s1}, nil
}

// service is what differs between services.
type service interface {
	// read returns what the service holds at the place.
	read(ctx context.Context, at dane.Place) (set, error)
	// write makes a change of what was read. An error of kind conflict says that the service holds something else now.
	write(ctx context.Context, at dane.Place, c change) error
	probe(ctx context.Context, at dane.Place) error
	// replaces says that write replaces the whole record set, without a condition.
	replaces() bool
	String() string
}

// set is what a service holds at one name.
type set struct {
	records []held
	ttl     time.Duration // 0 without records
	alias   string        // the target of a CNAME record; then there is nothing else
}

// held is a record as a service has it.
type held struct {
	resolve.TLSA
	raw      string // in the form of the service, to write it back
	id       string // if the service gives records one
	disabled bool   // it is kept, but not served
	foreign  bool   // mxcert cannot read it, so it only keeps it
}

// change is what to do with a record set.
type change struct {
	before      set
	add, remove []resolve.TLSA
	ttl         time.Duration // of the whole record set afterwards
}

// after returns the record set after the change, with records in the form of a zone file.
func (c change) after() []held {
	var after []held
	for _, h := range c.before.records {
		if (h.foreign || !contains(c.remove, h.TLSA)) && (h.foreign || !contains(c.add, h.TLSA)) {
			after = append(after, h)
		}
	}
	for _, r := range c.add {
		after = append(after, held{TLSA: r, raw: r.String()})
	}
	return after
}

package dane

import (
	"context"
	"time"

	"mxcert/acme/resolve"
)

// Place is where the records of an owner are: after all aliases of the owner, in its zone.
type Place struct {
	Zone    string // fully qualified
	Name    string // fully qualified
	Primary string // MNAME of the zone's SOA
}

// Publisher changes the TLSA records at a service that holds a zone. Package publish has the implementations, and a conformance test that
// each of them passes.
//
// Add and Remove change these values alone and leave all others as they are. It is not an error if a value is there already, or is not
// there. When they return nil, the service holds what was asked for: they have read it back. A change of several records happens as a whole
// where the service can do that; otherwise repeating it completes it. Errors say what to do (Hint, Kind, Temporary as in package report);
// none contains a secret.
type Publisher interface {
	// List returns the records at the place as the service itself holds them, not as DNS serves them. TTL is 0 if there are none.
	List(ctx context.Context, at Place) (records []resolve.TLSA, ttl time.Duration, err error)
	Add(ctx context.Context, at Place, records []resolve.TLSA, ttl time.Duration) error
	Remove(ctx context.Context, at Place, records []resolve.TLSA) error
	// Probe tests, without a change, whether this service would let mxcert write at the place, as far as it can be tested.
	Probe(ctx context.Context, at Place) error
	// String names the service for people, such as "PowerDNS at https://127.0.0.1:8081".
	String() string
}

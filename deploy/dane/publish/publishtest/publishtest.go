// Package publishtest is the conformance test of services that hold TLSA records, and has servers that speak the documented formats of
// hosted DNS, strictly, with their refusals, for backends whose real service cannot be had in a test.
//
// [Run] tests what [dane.Publisher] promises. What only one service has, its own tests see.
package publishtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// Service is a service with one zone in which nothing is but what a zone must have.
type Service struct {
	Zone    string // fully qualified
	Primary string // of the zone
	// Via makes a publisher that believes the service to be at another address; "" is the service itself. Each one is independent of others.
	Via func(t *testing.T, address string) dane.Publisher
	// Address is where the service listens; "" if it has no address, and then there are no tests of the network.
	Address string
	// Wrong makes a publisher with a wrong secret; nil if the service has none.
	Wrong func(t *testing.T) dane.Publisher
	// Put adds a record as another program would: of a name, which is fully qualified, of a type, in the form of a zone file.
	Put func(t *testing.T, name string, ttl int, kind, value string)
	// Held returns the records at a name that the service holds, by other means than the publisher: "TYPE VALUE", the data of TLSA records in
	// lower case.
	Held func(t *testing.T, name string) []string

	LeastTTL time.Duration // a shorter one is raised to it
	Replaces bool          // the service replaces record sets without a condition, so changes at the same moment may have to be repeated
	Serial   bool          // it refuses some changes while it makes others, so the tests run one after another
	Secrets  []string      // what must be in no error
}

// Run tests a service.
func Run(t *testing.T, s Service) {
	for name, test := range map[string]func(*testing.T, Service){
		"add and remove": addAndRemove, "records of others": recordsOfOthers, "TTL": timeToLive, "upper case": upperCase, "many records": manyRecords,
		"two publishers in turns": inTurns, "two publishers at once": atOnce, "an alias": alias, "another zone": anotherZone, "probe": probe,
		"wrong secret": wrongSecret, "cancelled": cancelled, "network": network, "lost answers": lostAnswers, "not the service": notTheService,
	} {
		t.Run(name, func(t *testing.T) {
			if !s.Serial {
				t.Parallel()
			}
			test(t, s)
		})
	}
}

// place is a name of the test's own.
func (s Service) place(host string) dane.Place {
	return dane.Place{Zone: s.Zone, Name: "_25._tcp." + host + "." + s.Zone, Primary: s.Primary}
}

// open makes a publisher whose errors are looked at.
func (s Service) open(t *testing.T) dane.Publisher { return s.watch(t, s.Via(t, "")) }

// Value returns a record with a recognizable digest.
func Value(n int) resolve.TLSA {
	data := make([]byte, 32)
	copy(data, fmt.Sprintf("record %d", n))
	return resolve.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: data}
}

func values(numbers ...int) []resolve.TLSA {
	var all []resolve.TLSA
	for _, n := range numbers {
		all = append(all, Value(n))
	}
	return all
}

// holds compares what the service and its publisher say with what should be at a place.
func (s Service) holds(t *testing.T, p dane.Publisher, at dane.Place, what string, want ...string) {
	t.Helper()
	got := s.Held(t, at.Name)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: the service holds\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	records, ttl, err := p.List(t.Context(), at)
	if err != nil {
		t.Errorf("%s: list: %v", what, err)
		return
	}
	var listed, tlsa []string
	for _, r := range records {
		listed = append(listed, "TLSA "+r.String())
	}
	for _, text := range want {
		if strings.HasPrefix(text, "TLSA ") {
			tlsa = append(tlsa, text)
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, tlsa) || (ttl == 0) != (len(listed) == 0) {
		t.Errorf("%s: list says %q with TTL %s, want %q", what, listed, ttl, tlsa)
	}
}

func records(all ...resolve.TLSA) []string {
	var out []string
	for _, r := range all {
		out = append(out, "TLSA "+r.String())
	}
	return out
}

// kind is what programs read of an error.
func kind(err error) string {
	e, ok := errors.AsType[interface {
		error
		Kind() string
	}](err)
	if !ok {
		return ""
	}
	return e.Kind()
}

func temporary(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && e.Temporary()
}

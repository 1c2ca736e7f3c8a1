package resolve

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Zones is a memory of the servers and the keys of zones, for a minute at most, that several resolvers share: many certificates have their
// records in one zone. The answers about the records themselves are in no memory. The zero Zones is empty.
type Zones struct{ memory memory }

// Share makes the resolver use a memory that others use too. Those with other recursive resolvers do not see its answers. It is called before
// the first question.
func (r *Resolver) Share(z *Zones) *Resolver {
	r.zones = z
	return r
}

// shared finds something about a zone, or recalls what a resolver has found that asks the same servers.
func shared[T any](ctx context.Context, r *Resolver, key string, find func() (T, time.Duration, error)) (T, error) {
	if r.zones == nil {
		value, _, err := find()
		return value, err
	}
	return recall(ctx, &r.zones.memory, fmt.Sprint(key, r.servers, r.trusted, r.ports), find) // maps are printed in the order of their keys
}

func (r *Resolver) sharedDelegation(ctx context.Context, zone string) (Delegation, error) {
	return shared(ctx, r, "delegation/"+zone, func() (Delegation, time.Duration, error) {
		d, err := r.Delegation(ctx, zone)
		if len(d.Unknown) > 0 || d.NotAsked != nil && !d.Private {
			return d, shortMemory, err
		}
		return d, longestMemory, err
	})
}

// sharedKeys asks for the DNSKEY records of a zone. Only keys for which a validating resolver vouches are shared.
func (r *Resolver) sharedKeys(ctx context.Context, zone string) looked {
	found, err := shared(ctx, r, "keys/"+zone, func() (looked, time.Duration, error) {
		found := r.judge(ctx, zone, dns.TypeDNSKEY)
		if found.State != Secure { // a zone that is being signed must not look unsigned for a minute
			return found, 0, nil
		}
		return found, max(found.TTL, shortMemory), nil
	})
	if err != nil { // the context's
		found = looked{Answer: Answer{Name: PlainName(zone), Type: "DNSKEY", State: Failed, Final: PlainName(zone)}}
		found.Err = &Error{Name: found.Name, Type: found.Type, Server: "-", Reason: plain(err), kind: unreached}
	}
	return found
}

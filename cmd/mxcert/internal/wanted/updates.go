package wanted

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/resolve"
	"mxcert/configs"
	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish"
)

// rfc2136 is the DNS provider whose accounts can write TLSA records, too.
const rfc2136 = "rfc2136"

// updates returns the publisher that writes with the accounts of dns and dns.zones; nil if none of them takes dynamic updates.
func (c Certificate) updates() (dane.Publisher, error) {
	a := &accounts{certificate: c, made: map[string]dane.Publisher{}}
	if dns := c.source.DNS; dns.Provider != "" {
		a.list = append(a.list, updater{"", "dns", dns.Provider, dns.Env})
	}
	for _, zone := range c.source.DNS.Zones {
		a.list = append(a.list, updater{zone.Name, zone.Path, zone.Provider, zone.Env})
	}
	if !slices.ContainsFunc(a.list, func(one updater) bool { return one.provider == rfc2136 }) {
		return nil, nil
	}
	return a, nil
}

// updater is an account of the dns section.
type updater struct {
	zone     string // "" for all names that are in no zone of another account
	path     string // in the configuration
	provider string
	env      map[string]configs.Secret
}

// accounts is a publisher that writes each record with the account of its zone: the longest match in dns.zones, else dns.provider, as
// challenges are written. The accounts are set up, and their secrets read, when they are needed first.
type accounts struct {
	certificate Certificate
	list        []updater

	lock sync.Mutex
	made map[string]dane.Publisher // by path
}

// noUpdates is the error about a name whose account cannot write TLSA records.
type noUpdates struct{ name, path, provider string }

func (e noUpdates) Error() string {
	if e.path == "" {
		return fmt.Sprintf("no account of the dns section covers %s, so mxcert cannot write its TLSA records", e.name)
	}
	return fmt.Sprintf("%s belongs to the account at %s, whose provider %s writes no TLSA records", e.name, e.path, e.provider)
}

func (e noUpdates) Hint() string {
	return "set dane.publisher, or give dns.zones an account with provider rfc2136 for this name; mxcert-dane(7) has examples"
}

func (e noUpdates) Kind() string { return "configuration" }

// of returns the publisher for a place.
func (a *accounts) of(at dane.Place) (dane.Publisher, error) {
	name, best := strings.ToLower(strings.TrimSuffix(at.Name, ".")), -1
	for i, one := range a.list {
		if one.zone != "" && name != one.zone && !strings.HasSuffix(name, "."+one.zone) {
			continue
		}
		if best < 0 || len(one.zone) > len(a.list[best].zone) {
			best = i
		}
	}
	switch {
	case best < 0:
		return nil, noUpdates{name: name}
	case a.list[best].provider != rfc2136:
		return nil, noUpdates{name, a.list[best].path, a.list[best].provider}
	}
	return a.publisher(a.list[best])
}

func (a *accounts) publisher(one updater) (dane.Publisher, error) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if made := a.made[one.path]; made != nil {
		return made, nil
	}
	values, err := a.certificate.environment(one.path, one.env)
	if err != nil {
		return nil, err
	}
	made, err := publish.New(publish.Settings{RFC2136: values, Addresses: a.certificate.Resolver().Addresses})
	if err != nil {
		return nil, fmt.Errorf("%s.env: %w", one.path, err)
	}
	a.made[one.path] = made
	return made, nil
}

func (a *accounts) List(ctx context.Context, at dane.Place) ([]resolve.TLSA, time.Duration, error) {
	p, err := a.of(at)
	if err != nil {
		return nil, 0, err
	}
	return p.List(ctx, at)
}

func (a *accounts) Add(ctx context.Context, at dane.Place, records []resolve.TLSA, ttl time.Duration) error {
	p, err := a.of(at)
	if err != nil {
		return err
	}
	return p.Add(ctx, at, records, ttl)
}

func (a *accounts) Remove(ctx context.Context, at dane.Place, records []resolve.TLSA) error {
	p, err := a.of(at)
	if err != nil {
		return err
	}
	return p.Remove(ctx, at, records)
}

func (a *accounts) Probe(ctx context.Context, at dane.Place) error {
	p, err := a.of(at)
	if err != nil {
		return err
	}
	return p.Probe(ctx, at)
}

func (a *accounts) String() string {
	var servers []string
	for _, one := range a.list {
		server := string(one.env[updateServer])
		if one.provider == rfc2136 && server == "" {
			server = "the zone's primary"
		}
		if one.provider == rfc2136 && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return "dynamic updates at " + strings.Join(servers, ", ")
}

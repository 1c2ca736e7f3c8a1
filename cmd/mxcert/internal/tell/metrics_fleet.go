package tell

import (
	"context"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/hooks/metrics"
)

// mostHosts limits how many hosts and certificates have a number of their own. In a larger fleet those that match have none.
const mostHosts = 5000

// knownPatience bounds how long what is known about hosts may be waited for, in all. With a daemon at work nobody is asked.
const knownPatience = 5 * time.Second

// Hosts returns what the hosts of the fleet say about each of these certificates, in their order: what is known after 5 s at most.
func (f *Fleet) Hosts(names []string) [][]fleet.Deployed {
	ctx, cancel := context.WithTimeout(context.Background(), knownPatience)
	defer cancel()
	list := make([][]fleet.Deployed, len(names))
	for i, name := range names {
		list[i], _ = f.Member.Hosts(ctx, name) // the last known ones do
	}
	return list
}

// fleetNumbers takes out of a World what is known about the fleet; nil if this host is in none, or if nothing is known yet.
func fleetNumbers(w World) *metrics.Fleet {
	if w.Fleet == nil || !w.Fleet.Health.Up && w.Fleet.Health.Since.IsZero() {
		return nil
	}
	numbers := &metrics.Fleet{Up: w.Fleet.Health.Up}
	certificates := names(w.Host)
	for i, hosts := range w.Fleet.Hosts(certificates) {
		numbers.Hosts = append(numbers.Hosts, hostNumbers(certificates[i], hosts)...)
	}
	if len(numbers.Hosts) > mostHosts {
		numbers.Hosts = slices.DeleteFunc(numbers.Hosts, func(h metrics.FleetHost) bool { return h.Matches })
		numbers.Hosts = numbers.Hosts[:min(len(numbers.Hosts), mostHosts)]
	}
	return numbers
}

// hostNumbers compares each host that wants a certificate with the newest one.
func hostNumbers(name string, hosts []fleet.Deployed) (list []metrics.FleetHost) {
	newest := fleet.NewestOf(hosts)
	for _, d := range hosts {
		if len(d.Wish.Keys) > 0 {
			behind := slices.ContainsFunc(d.Wish.Keys, func(key bundle.KeyType) bool { return !d.Serves(key, newest[key].Serial) })
			list = append(list, metrics.FleetHost{Certificate: name, Host: d.Host, Matches: !behind})
		}
	}
	slices.SortFunc(list, func(a, b metrics.FleetHost) int {
		if a.Host < b.Host {
			return -1
		}
		return 1
	})
	return list
}

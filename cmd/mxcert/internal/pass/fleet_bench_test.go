package pass

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/etcd"
	"mxcert/acme/state/etcd/etcdtest"
)

// resident is a host of a simulated fleet: a member with a disk of its own, and no mail server.
type resident struct {
	member *fleet.Member
	book   *state.Book
}

// take does what a pass does with a new certificate of the fleet, up to its disk. It returns the serial number; "" if there is none.
func (r *resident) take(ctx context.Context) string {
	shared, err := r.member.Take(ctx, "mx", bundle.EC256)
	if err != nil || shared == nil {
		return ""
	}
	_, err = r.book.Lineage("mx").AddTaken(shared.Bundle, state.Taken{Host: shared.Host, Names: shared.Names, Directory: shared.Directory, Order: shared.Order, Created: shared.Created}, time.Now())
	if err != nil || r.member.Taken("mx", bundle.EC256, shared) != nil {
		return ""
	}
	return shared.Bundle.Serial()
}

// BenchmarkFleetOf50 measures how long after the end of an order 50 hosts have the new certificate on their disks: members with real disks on one
// real etcd, without the delay by which daemons of a large fleet spread, and without mail servers. p50 and max are in milliseconds.
func BenchmarkFleetOf50(b *testing.B) {
	const hosts = 50
	o := newOffline(b)
	cluster := etcdtest.Start(b, 1)
	var identities []*seal.Identity
	var recipients []seal.Recipient
	for range hosts {
		secret, err := age.GenerateX25519Identity()
		o.check(err)
		identity, err := seal.ParseIdentity(secret.String())
		o.check(err)
		identities, recipients = append(identities, identity), append(recipients, identity.Recipient())
	}
	took := make(chan string, 10*hosts)
	var all []*resident
	for i := range hosts {
		store, err := etcd.Open(etcd.Settings{Endpoints: cluster.Endpoints(), Prefix: "/mxcert/v1/berlin/", Holder: fmt.Sprintf("mx%d", i)})
		o.check(err)
		files, err := disk.Open(o.Path("hosts", fmt.Sprint(i)))
		o.check(err)
		member, err := fleet.New(fleet.Settings{Name: "berlin", Host: fmt.Sprintf("mx%d", i), Identity: identities[i], Recipients: recipients, Session: "of a daemon"}, store, files, slog.New(slog.DiscardHandler))
		o.check(err)
		r := &resident{member: member, book: state.New(files)}
		all = append(all, r)
		ctx, cancel := context.WithCancel(b.Context())
		var running sync.WaitGroup
		running.Go(func() {
			member.Run(ctx, func([]string) {
				if serial := r.take(ctx); serial != "" {
					took <- serial
				}
			})
		})
		b.Cleanup(func() {
			cancel()
			running.Wait()
			_ = store.Close()
		})
		r.take(ctx) // it is of interest from now on
	}
	first, n := all[0], 0
	change := func() (list []time.Duration) {
		n++
		issued := o.sign(bundle.EC256, nil, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Duration(n) * time.Hour) })
		g, err := first.book.Lineage("mx").Add(issued, issued.Leaf().DNSNames, directory, "", time.Now())
		o.check(err)
		lead, err := first.member.Lead(b.Context(), "mx", fleet.Danger{})
		o.check(err)
		start := time.Now()
		o.check(first.member.Offer(b.Context(), lead, "mx", g, issued))
		lead.Release()
		for len(list) < hosts-1 {
			if <-took == issued.Serial() {
				list = append(list, time.Since(start))
			}
		}
		return list
	}
	change() // until all have arrived
	var list []time.Duration
	for b.Loop() {
		list = append(list, change()...)
	}
	slices.Sort(list)
	b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(list[len(list)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(0, "ns/op")
}

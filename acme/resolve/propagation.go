package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Require says how many of the authoritative servers must serve a record before it counts as visible.
type Require string

// The values of dns.propagation.require.
const (
	All    Require = "all"
	Quorum Require = "quorum" // more than half of the hosts, on one address each
	None   Require = "none"   // do not look
)

// TXT is a set of values that must be visible at one name.
type TXT struct {
	Name   string
	Zone   string
	Values []string
}

// AwaitTXT waits until the authoritative servers of each zone serve the values, all zones and servers in parallel: every
// address that the zone's own NS records or its [Delegation] name. It calls progress (which may be nil) for each server that is
// up to date or that it waits for, and for a delegation that differs; never concurrently. The error is an *Error for each zone,
// of kind propagation if the timeout has passed, or the context's if that ends first.
func (r *Resolver) AwaitTXT(ctx context.Context, records []TXT, require Require, timeout time.Duration, progress func(string)) error {
	if require == None {
		return nil
	}
	var telling sync.Mutex
	tell := func(format string, args ...any) {
		telling.Lock()
		defer telling.Unlock()
		if progress != nil {
			progress(fmt.Sprintf(format, args...))
		}
	}
	byZone := map[string][]TXT{}
	for _, record := range records {
		byZone[record.Zone] = append(byZone[record.Zone], record)
	}
	var wait sync.WaitGroup
	problems := make(chan error, len(byZone))
	for zone, wanted := range byZone {
		wait.Go(func() { problems <- r.awaitZone(ctx, zone, wanted, require, timeout, tell) })
	}
	wait.Wait()
	close(problems)
	var all []error
	for err := range problems {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (r *Resolver) awaitZone(ctx context.Context, zone string, wanted []TXT, require Require, timeout time.Duration, tell func(string, ...any)) error {
	start := time.Now()
	d, err := r.Delegation(ctx, zone)
	if err != nil {
		return err
	}
	tellOf(d, tell)
	polling, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	t := &tally{require: require}
	for _, server := range d.Servers {
		t.polls = append(t.polls, &poll{server: server, zone: dns.CanonicalName(zone), wanted: slices.Clone(wanted), last: noAnswer})
	}
	var wait sync.WaitGroup
	for _, p := range t.polls {
		wait.Go(func() {
			p.await(polling, func(s standing, got found) {
				if s == current {
					tell("%s serves them (%s)", p.server, got.text)
				}
				if t.note(p, s, got) {
					stop()
				}
			}, tell)
		})
	}
	wait.Wait()
	switch {
	case t.decided:
		return nil
	case endOf(ctx) != nil:
		return endOf(ctx)
	}
	return t.explain(zone, time.Since(start))
}

// tellOf reports what is wrong with a delegation.
func tellOf(d Delegation, tell func(string, ...any)) {
	switch {
	case d.Private: // as expected
	case d.NotAsked != nil:
		tell("the parent zone of %s cannot be asked: %v", PlainName(d.Zone), d.NotAsked)
	case d.Undelegated:
		tell("warning: %s does not delegate %s: the public cannot find it", PlainName(d.Parent), PlainName(d.Zone))
	}
	for _, difference := range d.Differences {
		tell("warning: %s: %s", PlainName(d.Zone), difference)
	}
}

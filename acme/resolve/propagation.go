package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Require says how many of the authoritative servers must serve a record before it counts as visible.
type Require string

// The values of dns.propagation.require.
const (
	All    Require = "all"
	Quorum Require = "quorum" // more than half
	None   Require = "none"   // do not look
)

// TXT is a set of values that must be visible at one name.
type TXT struct {
	Name   string
	Zone   string
	Values []string
}

// BehindError lists the servers that did not serve the records in time.
type BehindError struct {
	Zone    string
	Waited  time.Duration
	Servers []string // "host [address]: what it answered"
	Stale   bool     // one of them is named only by the parent zone
}

// Error names every server that is behind.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the TXT records in %s were not visible everywhere after %s: %s",
		plainName(e.Zone), e.Waited.Round(time.Second), strings.Join(e.Servers, "; "))
}

// Kind is "propagation".
func (e *BehindError) Kind() string { return "propagation" }

// Temporary is true: a secondary may catch up.
func (e *BehindError) Temporary() bool { return true }

// Hint says what to do.
func (e *BehindError) Hint() string {
	hint := "see why these servers are behind (NOTIFY, zone transfer, firewall on port 53), or raise dns.propagation.timeout, or set dns.propagation.require: quorum"
	if e.Stale {
		hint = "have the delegation of " + plainName(e.Zone) + " corrected where the domain is registered, because a CA may ask the servers that it names; otherwise " + hint
	}
	return hint
}

// AwaitTXT waits until the authoritative servers of each zone serve the values, all zones and servers in parallel: every
// address that the zone's own NS records or its [Delegation] name. progress (may be nil) is told of each server once it is
// up to date, of those that are waited for, and of a delegation that differs; one after another. It returns a
// *BehindError when the timeout passes, an *Error when the servers cannot be found, the context's error when that ends
// first.
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
	results := make(chan *poll, len(d.Servers))
	for _, server := range d.Servers {
		go func() { results <- await(polling, server, zone, wanted, tell) }()
	}
	var done, skipped int
	behind := &BehindError{Zone: zone}
	for range d.Servers {
		p := <-results
		switch {
		case p.notAsked:
			skipped++
		case p.done:
			done++
			tell("%s serves them (%s)", p.server, p.last)
		default:
			behind.Servers = append(behind.Servers, fmt.Sprintf("%s: %s", p.server, p.last))
			behind.Stale = behind.Stale || p.server.Only == "parent" || p.server.Only == "glue"
		}
		if require == Quorum && done > (len(d.Servers)-skipped)/2 {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(behind.Servers) == 0 && done > 0 {
		return nil
	}
	if len(behind.Servers) == 0 {
		behind.Servers = []string{"none of its servers can be reached from this host"}
	}
	slices.Sort(behind.Servers)
	behind.Waited = time.Since(start)
	return behind
}

// tellOf says what is odd about a delegation.
func tellOf(d Delegation, tell func(string, ...any)) {
	switch {
	case d.NotAsked != nil:
		tell("the parent zone of %s cannot be asked, so that the servers which the zone itself names count: %v", plainName(d.Zone), d.NotAsked)
	case d.Undelegated:
		tell("warning: %s does not delegate %s: the public cannot find it", plainName(d.Parent), plainName(d.Zone))
	}
	for _, difference := range d.Differences {
		tell("warning: %s: %s", plainName(d.Zone), difference)
	}
}

package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
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

// Polling of one server starts fast, because updates usually arrive at once, and grows.
const (
	firstPoll = 100 * time.Millisecond
	lastPoll  = 2 * time.Second
)

// BehindError lists the servers that did not serve the records in time.
type BehindError struct {
	Zone    string
	Waited  time.Duration
	Servers []string // "host [address]: what it answered"
}

// Error names every server that is behind.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the TXT records in %s were not visible everywhere after %s: %s",
		strings.TrimSuffix(e.Zone, "."), e.Waited.Round(time.Second), strings.Join(e.Servers, "; "))
}

// Kind is "propagation".
func (e *BehindError) Kind() string { return "propagation" }

// Temporary is true: a secondary may catch up.
func (e *BehindError) Temporary() bool { return true }

// Hint says what to do.
func (e *BehindError) Hint() string {
	return "see why these servers are behind (NOTIFY, zone transfer, firewall on port 53), or raise dns.propagation.timeout, or set dns.propagation.require: quorum"
}

// AwaitTXT waits until the authoritative servers of each zone serve the values, all zones and servers in parallel.
// progress (may be nil) is told of each server once it is up to date, one after another. It returns a *BehindError when
// the timeout passes, an *Error when the servers cannot be found, the context's error when that ends first.
func (r *Resolver) AwaitTXT(ctx context.Context, records []TXT, require Require, timeout time.Duration, progress func(string)) error {
	if require == None {
		return nil
	}
	var telling sync.Mutex
	tell := func(text string) {
		telling.Lock()
		defer telling.Unlock()
		if progress != nil {
			progress(text)
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

// observation is the last state of one server.
type observation struct {
	server   Server
	done     bool
	notAsked bool // this host has no route to the address: a CA has
	last     string
}

func (r *Resolver) awaitZone(ctx context.Context, zone string, wanted []TXT, require Require, timeout time.Duration, tell func(string)) error {
	start := time.Now()
	servers, err := r.Authoritative(ctx, zone)
	if err != nil {
		return err
	}
	polling, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	results := make(chan observation, len(servers))
	for _, server := range servers {
		go func() { results <- poll(polling, server, wanted) }()
	}
	var done, skipped int
	var behind []string
	for range servers {
		o := <-results
		switch {
		case o.notAsked:
			skipped++
		case o.done:
			done++
			tell(fmt.Sprintf("%s serves them (%s)", o.server, o.last))
		default:
			behind = append(behind, fmt.Sprintf("%s: %s", o.server, o.last))
		}
		if require == Quorum && done > (len(servers)-skipped)/2 {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(behind) == 0 && done > 0 {
		return nil
	}
	if done == 0 && len(behind) == 0 {
		behind = []string{"none of its servers can be reached from this host"}
	}
	slices.Sort(behind)
	return &BehindError{Zone: zone, Waited: time.Since(start), Servers: behind}
}

// poll asks one server until it serves all values or the context ends.
func poll(ctx context.Context, server Server, wanted []TXT) observation {
	o := observation{server: server, last: noAnswer}
	for pause := firstPoll; ; pause = min(pause*3/2, lastPoll) {
		missing, serial, err := look(ctx, server.Address, wanted)
		switch {
		case err == nil && missing == "":
			o.done, o.last = true, serial
			return o
		case unreachable(err):
			o.notAsked = true
			return o
		case ctx.Err() != nil:
			return o
		case err != nil:
			o.last = plain(err)
		default:
			o.last = missing + " (" + serial + ")"
		}
		select {
		case <-ctx.Done():
			return o
		case <-time.After(pause):
		}
	}
}

// unreachable reports whether this host has no way to an address, such as IPv6 where there is none.
func unreachable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// look asks one server once for every name. missing describes the first record that it does not serve.
func look(ctx context.Context, address string, wanted []TXT) (missing, serial string, err error) {
	for _, w := range wanted {
		question := new(dns.Msg).SetQuestion(w.Name, dns.TypeTXT)
		question.RecursionDesired = false
		question.SetEdns0(udpPayload, false)
		answer, err := exchange(ctx, question, address)
		if err != nil {
			return "", "", err
		}
		if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			return "it answers " + dns.RcodeToString[answer.Rcode], "no serial", nil
		}
		served := txtValues(answer, w.Name)
		for _, value := range w.Values {
			if !slices.Contains(served, value) {
				return "it does not serve " + strings.TrimSuffix(w.Name, ".") + " yet", serialOf(ctx, address, w.Zone), nil
			}
		}
	}
	return "", serialOf(ctx, address, wanted[0].Zone), nil
}

func txtValues(answer *dns.Msg, name string) []string {
	var values []string
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok && dns.CanonicalName(txt.Hdr.Name) == dns.CanonicalName(name) {
			values = append(values, strings.Join(txt.Txt, ""))
		}
	}
	return values
}

// serialOf is for the operator's eyes only, so that a failure to learn it is just said, and soon.
func serialOf(ctx context.Context, address, zone string) string {
	ctx, cancel := context.WithTimeout(ctx, udpTimeout)
	defer cancel()
	question := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
	question.RecursionDesired = false
	answer, err := exchange(ctx, question, address)
	if err == nil {
		for _, rr := range answer.Answer {
			if soa, ok := rr.(*dns.SOA); ok {
				return fmt.Sprintf("SOA serial %d", soa.Serial)
			}
		}
	}
	return "SOA serial unknown"
}

// withPort adds the port on which an authoritative address is asked.
func (r *Resolver) withPort(address string) string {
	port := r.ports[address]
	if port == "" {
		port = "53"
	}
	return net.JoinHostPort(address, port)
}

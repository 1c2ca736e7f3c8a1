package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Polling of one server starts fast, because updates usually arrive at once, and grows: at first the pause stays below half a
// second; later it is a twentieth of the time since the start.
const (
	firstPause = 100 * time.Millisecond
	shortPause = 400 * time.Millisecond
	longPause  = 5 * time.Second
	// quietTime is how long await waits for a server before it reports that.
	quietTime = 3 * time.Second
	// atOnce limits the questions to one server that are under way at once.
	atOnce = 8
)

// standing is what is known about one server.
type standing int

const (
	unasked    standing = iota
	outOfReach          // this host has no route to the address, but a CA may have one
	silent              // no answer came
	late                // it answers, but does not serve the values yet
	current             // it serves the values
)

// poll is the watch on one server.
type poll struct {
	server Server
	zone   string
	wanted []TXT // not seen yet

	// The tally guards these.
	standing standing
	last     string // what it answered, in words; the serial if it is current
	partial  bool   // it serves some of the values of a name
}

// await asks one server until it serves all values or the context ends, and reports what it finds.
func (p *poll) await(ctx context.Context, report func(standing, found), tell func(string, ...any)) {
	start, told := time.Now(), ""
	for pause := firstPause; ; pause = nextPause(pause, time.Since(start)) {
		got, err := p.look(ctx)
		switch {
		case err == nil && got.text == "":
			report(current, found{text: p.serial(ctx)})
			return
		case unreachable(err):
			report(outOfReach, found{})
			return
		case endOf(ctx) != nil: // a question that had no time says nothing about the server
			return
		case err != nil:
			got.text = plain(err)
			report(standingOf(err), got)
		default:
			report(late, got)
		}
		if time.Since(start) > quietTime && told != got.text {
			told = got.text
			tell("waits for %s: %s", p.server, got.text)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// standingOf says what an exchange without an answer means: a refused connection is an answer of the host, all else is silence.
func standingOf(err error) standing {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return late
	}
	return silent
}

func nextPause(pause, waited time.Duration) time.Duration {
	return min(pause*3/2, max(shortPause, waited/20), longPause)
}

// found is what one look at a server has found.
type found struct {
	text    string // why it does not serve all values, in words; "" if it does, but the serial in a report of that
	partial bool   // it serves another value of the same name
}

// look asks for one of the missing values, and for the others once that one is there: a secondary receives all of them at once.
func (p *poll) look(ctx context.Context) (found, error) {
	if got, err := p.ask(ctx, p.wanted[0]); err != nil || got.text != "" {
		return got, err
	}
	type result struct {
		found
		err error
	}
	rest := p.wanted[1:]
	results := make([]result, len(rest))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, w := range rest {
		group.Go(func() error {
			results[i].found, results[i].err = p.ask(ctx, w)
			return nil
		})
	}
	_ = group.Wait() // each has its own result
	p.wanted = p.wanted[:1]
	var first result
	for i, r := range results {
		if r.err == nil && r.text == "" {
			continue
		}
		p.wanted = append(p.wanted, rest[i])
		if first.text == "" && first.err == nil {
			first = r
		}
	}
	if len(p.wanted) > 1 {
		p.wanted = p.wanted[1:] // the first is served
	}
	return first.found, first.err
}

// ask asks for the values of one name.
func (p *poll) ask(ctx context.Context, w TXT) (found, error) {
	answer, err := exchange(ctx, direct(w.Name, dns.TypeTXT), p.server.Address)
	if err != nil {
		return found{}, err
	}
	switch {
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return found{text: "it answers " + dns.RcodeToString[answer.Rcode] + explained(answer)}, nil
	case !answer.Authoritative:
		return found{text: "it is not a server of this zone (lame delegation)"}, nil
	}
	name := PlainName(w.Name)
	if target := aliasOf(answer, dns.CanonicalName(w.Name)); target != "" {
		return found{text: fmt.Sprintf("it has a CNAME at %s, from a wildcard or of its own, to %s, and not the record (%s)", name, PlainName(target), p.serial(ctx))}, nil
	}
	served := txtValues(answer, w.Name)
	have := 0
	for _, value := range w.Values {
		if slices.Contains(served, value) {
			have++
		}
	}
	switch have {
	case len(w.Values):
		return found{}, nil
	case 0:
		return found{text: fmt.Sprintf("it does not serve %s yet (%s)", name, p.serialWith(ctx, answer))}, nil
	}
	return found{partial: true, text: fmt.Sprintf("it serves %d of %d values of %s (%s)", have, len(w.Values), name, p.serialWith(ctx, answer))}, nil
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

// serialWith returns the serial of the zone from a negative answer; if the answer does not contain it, serialWith asks for it.
func (p *poll) serialWith(ctx context.Context, answer *dns.Msg) string {
	for _, rr := range answer.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == p.zone {
			return serialText(soa)
		}
	}
	return p.serial(ctx)
}

// serial asks for the serial. Only the operator reads it, so if it cannot be found out, serial says so, and soon.
func (p *poll) serial(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, udpTimeout)
	defer cancel()
	answer, err := exchange(ctx, direct(p.zone, dns.TypeSOA), p.server.Address)
	if err == nil {
		for _, rr := range answer.Answer {
			if soa, ok := rr.(*dns.SOA); ok {
				return serialText(soa)
			}
		}
	}
	return "SOA serial unknown"
}

func serialText(soa *dns.SOA) string { return fmt.Sprintf("SOA serial %d", soa.Serial) }

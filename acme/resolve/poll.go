package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

// poll is the watch on one server.
type poll struct {
	server Server
	zone   string
	wanted []TXT // not seen yet

	done     bool
	notAsked bool // this host has no route to the address, but a CA may have one
	last     string
}

// await asks one server until it serves all values or the context ends.
func await(ctx context.Context, server Server, zone string, wanted []TXT, tell func(string, ...any)) *poll {
	p := &poll{server: server, zone: dns.CanonicalName(zone), wanted: slices.Clone(wanted), last: noAnswer}
	start, told := time.Now(), ""
	for pause := firstPause; ; pause = nextPause(pause, time.Since(start)) {
		missing, err := p.look(ctx)
		switch {
		case err == nil && missing == "":
			p.done, p.last = true, p.serial(ctx)
			return p
		case unreachable(err):
			p.notAsked = true
			return p
		case ctx.Err() != nil:
			return p
		case err != nil:
			p.last = plain(err)
		default:
			p.last = missing
		}
		if time.Since(start) > quietTime && told != p.last {
			told = p.last
			tell("waits for %s: %s", server, p.last)
		}
		select {
		case <-ctx.Done():
			return p
		case <-time.After(pause):
		}
	}
}

func nextPause(pause, waited time.Duration) time.Duration {
	return min(pause*3/2, max(shortPause, waited/20), longPause)
}

// look asks for one of the missing values, and for the others once that one is there: a secondary receives all of them at once.
// missing describes the first value that is not served; "" if all are served.
func (p *poll) look(ctx context.Context) (missing string, err error) {
	if missing, err := p.ask(ctx, p.wanted[0]); err != nil || missing != "" {
		return missing, err
	}
	type result struct {
		missing string
		err     error
	}
	rest := p.wanted[1:]
	results := make([]result, len(rest))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, w := range rest {
		group.Go(func() error {
			results[i].missing, results[i].err = p.ask(ctx, w)
			return nil
		})
	}
	_ = group.Wait() // each has its own result
	p.wanted = p.wanted[:1]
	for i, r := range results {
		if r.err == nil && r.missing == "" {
			continue
		}
		p.wanted = append(p.wanted, rest[i])
		if missing == "" && err == nil {
			missing, err = r.missing, r.err
		}
	}
	if len(p.wanted) > 1 {
		p.wanted = p.wanted[1:] // the first is served
	}
	return missing, err
}

// ask asks for the values of one name.
func (p *poll) ask(ctx context.Context, w TXT) (missing string, err error) {
	answer, err := exchange(ctx, direct(w.Name, dns.TypeTXT), p.server.Address)
	if err != nil {
		return "", err
	}
	switch {
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return "it answers " + dns.RcodeToString[answer.Rcode] + explained(answer), nil
	case !answer.Authoritative:
		return "it is not a server of this zone (lame delegation)", nil
	}
	if end := followAliases(answer, dns.CanonicalName(w.Name), ".", map[string]bool{}); end != dns.CanonicalName(w.Name) {
		return fmt.Sprintf("it has a CNAME at %s, which other servers do not have", PlainName(w.Name)), nil
	}
	served := txtValues(answer, w.Name)
	for _, value := range w.Values {
		if !slices.Contains(served, value) {
			return fmt.Sprintf("it does not serve %s yet (%s)", PlainName(w.Name), p.serialWith(ctx, answer)), nil
		}
	}
	return "", nil
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

package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// survey is what DNS says about the names of an order and their zones.
type survey struct {
	*resolve.Resolver
	require resolve.Require

	names []*nameState
	zoned []*zoneState
}

// nameState is what was found about one name, without its "*.".
type nameState struct {
	name       string
	caa        resolve.CAASet
	caaErr     error
	place      resolve.Place // of the challenge's record
	placeErr   error
	placeBogus *resolve.Error // set if DNSSEC is the reason why the place cannot be found
	zone       string         // that holds the name
}

// zoneState is what was found about one zone.
type zoneState struct {
	zone       string
	bogus      *resolve.Error
	delegation resolve.Delegation
	err        error
	servers    []resolve.ServerState
}

// tasks returns the questions about names, to be asked in parallel.
func (s *survey) tasks(ctx context.Context, names []string) []func() {
	var tasks []func()
	for _, name := range names {
		base := strings.TrimPrefix(name, "*.")
		if slices.ContainsFunc(s.names, func(n *nameState) bool { return n.name == base }) {
			continue
		}
		n := &nameState{name: base, caaErr: errNotLooked, placeErr: errNotLooked}
		s.names = append(s.names, n)
		tasks = append(tasks,
			func() { n.caa, n.caaErr = s.CAA(ctx, base) },
			func() { s.locate(ctx, n) },
			func() { n.zone, _ = s.Zone(ctx, base) }) // if it fails, Locate says why
	}
	return tasks
}

// locate finds the place of a challenge, or why it cannot be found.
func (s *survey) locate(ctx context.Context, n *nameState) {
	n.place, n.placeErr = s.Locate(ctx, "_acme-challenge."+n.name)
	if failed, ok := errors.AsType[*resolve.Error](n.placeErr); ok && failed.Temporary() {
		n.placeBogus = s.Bogus(ctx, failed.Name)
	}
}

// of returns the state of a name that tasks has seen.
func (s *survey) of(name string) nameState {
	base := strings.TrimPrefix(name, "*.")
	for _, n := range s.names {
		if n.name == base {
			return *n
		}
	}
	return nameState{name: base, caaErr: errNotLooked, placeErr: errNotLooked}
}

// zones looks at the zones of the names, and at those that CNAME records of challenges lead to.
func (s *survey) zones(ctx context.Context) {
	for _, n := range s.names {
		for _, zone := range []string{n.zone, n.place.Zone} {
			if zone != "" && !slices.ContainsFunc(s.zoned, func(z *zoneState) bool { return z.zone == zone }) {
				s.zoned = append(s.zoned, &zoneState{zone: zone, err: errNotLooked})
			}
		}
	}
	var tasks []func()
	for _, z := range s.zoned {
		tasks = append(tasks, func() { s.look(ctx, z) })
	}
	together(ctx, tasks)
}

// look asks about one zone.
func (s *survey) look(ctx context.Context, z *zoneState) {
	var wait sync.WaitGroup
	wait.Go(func() { z.bogus = s.Bogus(ctx, z.zone) })
	if s.require != resolve.None {
		if z.delegation, z.err = s.Delegation(ctx, z.zone); z.err == nil {
			z.servers = s.Survey(ctx, z.delegation)
		}
	}
	wait.Wait()
}

// findings returns the findings that are the same for every CA.
func (s *survey) findings() []finding.Finding {
	var out []finding.Finding
	for _, n := range s.names {
		out = append(out, n.challenge())
	}
	out = append(out, s.dnssec()...)
	for _, z := range s.zoned {
		if s.require != resolve.None {
			out = append(out, z.delegated(s.require)...)
		}
	}
	return out
}

// challenge says where the record would be made.
func (n *nameState) challenge() finding.Finding {
	const id = "challenge"
	owner := "_acme-challenge." + n.name
	if n.placeErr != nil {
		return finding.New(id, severityOf(n.placeErr), "mxcert cannot find out where the TXT record for %s has to be: %s", owner, finding.Line(n.placeErr)).
			About(n.name).Next(hintIn(n.placeErr))
	}
	text := fmt.Sprintf("the TXT record goes to %s, in zone %s", resolve.PlainName(n.place.Name), resolve.PlainName(n.place.Zone))
	if resolve.PlainName(n.place.Name) != owner {
		text = owner + " is an alias: " + text
	}
	return finding.New(id, finding.OK, "%s", text).About(n.name)
}

// dnssec reports what resolvers find bogus, once for each zone, even if the zone could not be found for that reason.
func (s *survey) dnssec() []finding.Finding {
	bogus := map[string]*resolve.Error{}
	note := func(b *resolve.Error) {
		if b != nil && bogus[cmp.Or(b.Zone, b.Name)] == nil {
			bogus[cmp.Or(b.Zone, b.Name)] = b
		}
	}
	for _, z := range s.zoned {
		note(z.bogus)
	}
	for _, n := range s.names {
		note(n.caa.Bogus)
		note(n.placeBogus)
	}
	var out []finding.Finding
	for _, zone := range slices.Sorted(maps.Keys(bogus)) {
		b := bogus[zone]
		out = append(out, finding.New("dnssec", finding.Error, "%s; CAs validate too", b).About(resolve.PlainName(zone)).Next(b.Hint()))
	}
	for _, z := range s.zoned {
		if bogus[z.zone] == nil {
			out = append(out, finding.New("dnssec", finding.OK, "no resolver finds the zone's data bogus").About(resolve.PlainName(z.zone)))
		}
	}
	return out
}

// delegated reports on the delegation and the servers of a zone.
func (z *zoneState) delegated(require resolve.Require) []finding.Finding {
	name := resolve.PlainName(z.zone)
	warn := func(hint, format string, args ...any) finding.Finding {
		return finding.New("delegation", finding.Warning, format, args...).About(name).Next(hint)
	}
	if z.err != nil {
		f := warn(hintIn(z.err), "the servers of %s cannot be found: %s", name, finding.Line(z.err))
		f.Severity = severityOf(z.err)
		return []finding.Finding{f}
	}
	const registry = "have the delegation corrected at the registrar, or correct the NS records in the zone"
	var out []finding.Finding
	if z.delegation.Undelegated {
		out = append(out, warn(registry, "%s does not delegate %s: a public CA cannot find it", resolve.PlainName(z.delegation.Parent), name))
	}
	for _, difference := range z.delegation.Differences {
		out = append(out, warn(registry, "%s: %s", name, difference))
	}
	var well, unheard []string
	cutOff := resolve.CutOff(z.servers)
	for _, server := range z.servers {
		if server.Silent && server.Server.Family() == cutOff {
			unheard = append(unheard, server.Server.String())
		} else if server.Fault != "" {
			out = append(out, warn(waitHint(require), "%s", server))
		} else {
			well = append(well, server.String())
		}
	}
	if len(unheard) > 0 {
		out = append(out, warn(resolve.CutOffHint(cutOff, require), "%s", resolve.CutOffText(cutOff, unheard)))
	}
	if len(well) == 0 {
		return append(out, warn("check that this host may send to port 53", "none of the servers of %s answers for it", name))
	}
	text := strings.Join(well, "; ")
	switch {
	case z.delegation.Private:
		text += "; a private zone: it has no parent here"
	case z.delegation.NotAsked != nil:
		text += "; the parent zone cannot be asked: " + finding.Line(z.delegation.NotAsked)
	}
	return append(out, finding.New("delegation", finding.OK, "%s", text).About(name))
}

func waitHint(require resolve.Require) string {
	if require == resolve.All {
		return "fix this server or take it out of the NS records: with dns.propagation.require: all, an order waits for it, and fails"
	}
	return "fix this server or take it out of the NS records: a CA may ask it"
}

// severityOf is a warning for a failure that may pass, else an error.
func severityOf(err error) finding.Severity {
	passes, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	if !ok || passes.Temporary() {
		return finding.Warning
	}
	return finding.Error
}

func hintIn(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}

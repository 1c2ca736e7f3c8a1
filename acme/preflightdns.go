package acme

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

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
	name     string
	caa      resolve.CAASet
	caaErr   error
	place    resolve.Place // of the challenge's record
	placeErr error
	// placeBogus is what keeps the place from being found, where it is that.
	placeBogus *resolve.BogusError
	zone       string // that holds the name
}

// zoneState is what was found about one zone.
type zoneState struct {
	zone       string
	bogus      *resolve.BogusError
	delegation resolve.Delegation
	err        error
	servers    []resolve.ServerState
}

// tasks are the questions about names, to be asked in parallel. They go on where one of them fails.
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
			func() { n.zone, _ = s.Zone(ctx, base) }) // where it fails, Locate says why
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

// of gives the state of a name; tasks has seen it.
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
	_ = inParallel(ctx, len(s.zoned), func(i int) error { // what ctx kept away has found nothing, which is said
		z := s.zoned[i]
		var wait sync.WaitGroup
		wait.Go(func() { z.bogus = s.Bogus(ctx, z.zone) })
		if s.require != resolve.None {
			if z.delegation, z.err = s.Delegation(ctx, z.zone); z.err == nil {
				z.servers = s.Survey(ctx, z.delegation)
			}
		}
		wait.Wait()
		return nil
	})
}

// findings are those that are the same for every CA.
func (s *survey) findings() []Finding {
	var out []Finding
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
func (n *nameState) challenge() Finding {
	owner := "_acme-challenge." + n.name
	f := Finding{ID: "challenge", Severity: SeverityOK, Name: n.name}
	switch {
	case n.placeErr != nil:
		f.Severity, f.Message, f.Hint = severityOf(n.placeErr), fmt.Sprintf("where the TXT record for %s has to be cannot be found: %s", owner, oneLine(n.placeErr.Error())), hintIn(n.placeErr)
	case plainName(n.place.Name) != owner:
		f.Message = fmt.Sprintf("%s is an alias: the TXT record is made at %s, in zone %s", owner, plainName(n.place.Name), plainName(n.place.Zone))
	default:
		f.Message = fmt.Sprintf("the TXT record is made at %s, in zone %s", owner, plainName(n.place.Zone))
	}
	return f
}

// dnssec reports what resolvers find bogus, once for each zone, also where that kept the zone from being found.
func (s *survey) dnssec() []Finding {
	bogus := map[string]*resolve.BogusError{}
	note := func(b *resolve.BogusError) {
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
	var out []Finding
	for _, zone := range slices.Sorted(maps.Keys(bogus)) {
		b := bogus[zone]
		out = append(out, Finding{ID: "dnssec", Severity: SeverityError, Name: plainName(zone), Message: b.Error() + "; CAs validate too", Hint: b.Hint()})
	}
	for _, z := range s.zoned {
		if bogus[z.zone] == nil {
			out = append(out, Finding{ID: "dnssec", Severity: SeverityOK, Name: plainName(z.zone), Message: "no resolver finds the zone's data bogus"})
		}
	}
	return out
}

// delegated tells of the zone's servers.
func (z *zoneState) delegated(require resolve.Require) []Finding {
	name := plainName(z.zone)
	warn := func(hint, format string, args ...any) Finding {
		return Finding{ID: "delegation", Severity: SeverityWarning, Name: name, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	if z.err != nil {
		f := warn(hintIn(z.err), "the servers of %s cannot be found: %s", name, oneLine(z.err.Error()))
		f.Severity = severityOf(z.err)
		return []Finding{f}
	}
	const registry = "have the delegation corrected where the domain is registered, or the NS records in the zone"
	var out []Finding
	if z.delegation.Undelegated {
		out = append(out, warn(registry, "%s does not delegate %s: a public CA cannot find it", plainName(z.delegation.Parent), name))
	}
	for _, difference := range z.delegation.Differences {
		out = append(out, warn(registry, "%s: %s", name, difference))
	}
	var well []string
	for _, server := range z.servers {
		if server.Fault != "" {
			out = append(out, warn(waitHint(require), "%s", server))
		} else {
			well = append(well, server.String())
		}
	}
	if len(well) == 0 {
		return append(out, warn("is port 53 open from here to the outside?", "none of the servers of %s answers for it", name))
	}
	text := strings.Join(well, "; ")
	if z.delegation.NotAsked != nil {
		text += "; the parent zone cannot be asked: " + oneLine(z.delegation.NotAsked.Error())
	}
	return append(out, Finding{ID: "delegation", Severity: SeverityOK, Name: name, Message: text})
}

func waitHint(require resolve.Require) string {
	if require == resolve.All {
		return "mend this server or take it out of the NS records: with dns.propagation.require: all, an order waits for it and fails"
	}
	return "mend this server or take it out of the NS records: a CA may ask it"
}

// severityOf makes an error of what stays as it is, and a warning of what may pass.
func severityOf(err error) Severity {
	passes, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	if !ok || passes.Temporary() {
		return SeverityWarning
	}
	return SeverityError
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

func plainName(name string) string { return cmp.Or(strings.TrimSuffix(name, "."), ".") }

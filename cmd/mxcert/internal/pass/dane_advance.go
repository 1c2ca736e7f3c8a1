package pass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

const (
	// mostPlans limits how often a pass plans again because of what it did.
	mostPlans = 4
	// editPatience limits the changes of records: a service that hangs at each of many names must not keep the certificate for an hour. The
	// next pass goes on.
	editPatience = 5 * time.Minute
	// kindAlias is the kind of a publisher's error if an alias (CNAME) is at the name.
	kindAlias = "dns-alias"
)

// advanceTLSA carries out what can be done now: at the end of a pass, when it is known what is served. proven says that every endpoint has
// shown the current certificates.
func (p *pass) advanceTLSA(ctx context.Context, proven bool) {
	t := p.tlsa
	if t == nil {
		return
	}
	if p.joinTLSA(ctx); t.counts() || len(t.plan.Add)+len(t.plan.Remove) > 0 {
		p.freshTLSA(ctx)
	}
	if t.cancel(); t.quiet || ctx.Err() != nil && !proven {
		if t.quiet && proven && !p.options.DryRun && t.wanted() {
			p.promote() // a request that is carried out is over, also where no name has records
		}
		p.tellFleet(ctx, proven)
		return
	}
	if proven { // what was shown before the deployment is over
		t.serving, t.names = map[string]bool{}, nil
	}
	t.noteServing(p.seen)
	t.allSeen = len(p.seen) > 0 && !slices.ContainsFunc(p.seen, func(r served.Result) bool { return r.Shown == nil })
	if proven && !p.options.DryRun {
		p.promote()
	}
	p.tellFleet(ctx, proven)
	p.judgeTLSA()
	p.planTLSA()
	if p.options.DryRun || ctx.Err() != nil {
		return
	}
	p.probeIfNeeded(ctx)
	t.state.Observe(t.facts(p.have.Bundles, p.have.Record.Applying))
	if p.options.Adopt {
		p.adoptRecords()
	}
	p.planTLSA()
	for range mostPlans {
		if !p.makeAll(ctx) {
			break
		}
	}
	if err := p.saveTLSA(); err != nil {
		p.tlsaFault("no TLSA record is changed, because it cannot be noted before", err)
		return
	}
	p.edit(ctx)
	p.dropFree()
	p.endFleetEdit(ctx)
	p.warnAll(t.plan.Warnings)
	p.planTLSA() // for the report: what was just added is not waited for any more
}

// promote notes that the current certificates were proven on every endpoint.
func (p *pass) promote() {
	t := p.tlsa
	t.state.Promote(t.facts(p.have.Bundles, false).Current, t.at)
	for _, roll := range t.state.Keys {
		for i := range roll.Retired {
			roll.Retired[i].Compromised = roll.Retired[i].Compromised || p.lineage.Compromised(roll.Retired[i].SPKI)
		}
	}
	p.keepTLSA()
}

// wanted reports whether another key was asked for.
func (t *tlsa) wanted() bool {
	for _, roll := range t.state.Keys {
		if roll != nil && roll.Asked != nil {
			return true
		}
	}
	return false
}

// edit adds and removes the records of the plan. What is added is stored before, as ours.
func (p *pass) edit(ctx context.Context) {
	t := p.tlsa
	if len(t.plan.Add)+len(t.plan.Remove) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, editPatience)
	defer cancel()
	publisher, err := publisherOf(p.want)
	if err != nil {
		p.tlsaFault("the TLSA records cannot be changed", err)
		return
	}
	if t.listed == nil {
		t.listed = map[dane.Place][]string{}
	}
	if !p.beginFleetEdit(ctx) {
		return
	}
	p.remove(ctx, publisher)
	p.add(ctx, publisher)
	if t.edited { // otherwise the plan says when to try again, more and more seldom
		t.again = time.Now().Add(min(max(t.settings.TTL/4, time.Second), time.Minute))
	}
}

// publisherOf returns the service that holds the records.
func publisherOf(want wanted.Certificate) (dane.Publisher, error) {
	publisher, err := want.Publisher()
	if err == nil && publisher == nil {
		err = errors.New("no dane.publisher is configured")
	}
	return publisher, err
}

// remove takes back records of ours. That they are gone is noted when the service says so.
func (p *pass) remove(ctx context.Context, publisher dane.Publisher) {
	for _, e := range p.tlsa.plan.Remove {
		err := publisher.Remove(ctx, e.Place, parseAll(e.Records))
		if err != nil {
			p.tlsaFault(fmt.Sprintf("TLSA records at %s could not be removed by %s", e.Place.Name, publisher), err)
			p.tlsa.unsure = true
			continue
		}
		t := p.tlsa
		if t.fleet != nil {
			t.state.Removed(e)
		}
		t.listed[e.Place] = slices.DeleteFunc(slices.Clone(t.listed[e.Place]), func(r string) bool { return slices.Contains(e.Records, r) })
		t.edited = true
		p.say("tlsa", fmt.Sprintf("removed at %s: %s", e.Place.Name, strings.Join(e.Records, ", ")))
	}
}

// add publishes records of ours: claimed in the store before.
func (p *pass) add(ctx context.Context, publisher dane.Publisher) {
	t := p.tlsa
	for _, e := range t.plan.Add {
		t.state.Claim(e, time.Now())
		if t.fleet != nil {
			t.state.Found(e, t.facts(p.have.Bundles, p.have.Record.Applying), t.fleet.keys.Host())
		}
	}
	err := p.saveTLSA()
	if err == nil {
		err = p.claimForFleet(ctx)
	}
	if err != nil {
		p.tlsaFault("no TLSA record is added, because it cannot be noted before", err)
		return
	}
	for _, e := range t.plan.Add {
		if err := publisher.Add(ctx, e.Place, parseAll(e.Records), t.settings.TTL); err != nil {
			p.tlsaFault(fmt.Sprintf("TLSA records at %s could not be added by %s", e.Place.Name, publisher), err)
			t.unsure = true
			continue
		}
		t.listed[e.Place] = append(slices.Clone(t.listed[e.Place]), e.Records...)
		t.edited = true
		p.say("tlsa", fmt.Sprintf("added at %s: %s", e.Place.Name, strings.Join(e.Records, ", ")))
	}
}

// parseAll reads records that the plan has written.
func parseAll(texts []string) (records []resolve.TLSA) {
	for _, text := range texts {
		if record, err := resolve.ParseTLSA(text); err == nil {
			records = append(records, record)
		}
	}
	return records
}

// adoptRecords makes records of others ours that fit a key of ours.
func (p *pass) adoptRecords() {
	for _, o := range p.tlsa.state.Adopt(p.tlsa.facts(p.have.Bundles, p.have.Record.Applying)) {
		p.say("tlsa", fmt.Sprintf("%s IN TLSA %s is mxcert's from now on", o.Owner, o.Record))
	}
}

// service returns how to ask the service that holds the zones for the records: in mode publish, and as long as records of ours are there.
func (p *pass) service(t *tlsa) func(context.Context, *tlsaLook) {
	if t.settings.Mode != dane.Publish && len(t.state.Ours) == 0 {
		return nil
	}
	ours := &dane.State{Ours: slices.Clone(t.state.Ours), Former: slices.Clone(t.state.Former)}
	resolver, want := p.resolver, p.want // a look at names may change p.want meanwhile
	return func(ctx context.Context, look *tlsaLook) {
		look.locate(ctx, resolver)
		service, err := publisherOf(want)
		if err != nil {
			look.faults = append(look.faults, faultText("the TLSA records of "+want.Name+" cannot be changed", err))
			return
		}
		look.list(ctx, service, ours.Places(look.places))
	}
}

// locate finds where the records of the owners are; the zero Place if that is not known.
func (l *tlsaLook) locate(ctx context.Context, resolver *resolve.Resolver) {
	l.places = make([]dane.Place, len(l.views))
	errs := make([]error, len(l.views))
	together(len(l.views), func(i int) { l.places[i], errs[i] = dane.Locate(ctx, resolver, l.views[i]) })
	for i, err := range errs {
		if err != nil && l.views[i].Err == nil {
			l.faults = append(l.faults, faultText(fmt.Sprintf("it is not known where the TLSA records of %s have to be", l.views[i].Owner.Name()), err))
		}
	}
}

// list asks the service for the records at places.
func (l *tlsaLook) list(ctx context.Context, service dane.Publisher, places []dane.Place) {
	lists, errs := make([][]resolve.TLSA, len(places)), make([]error, len(places))
	together(len(places), func(i int) { lists[i], _, errs[i] = service.List(ctx, places[i]) })
	l.listed = map[dane.Place][]string{}
	for i, place := range places {
		if report.KindOf(errs[i]) == kindAlias && !slices.Contains(l.places, place) {
			errs[i] = nil // an alias has taken the place of records of ours: no others can be there (RFC 1034 section 3.6.2)
		}
		if errs[i] != nil {
			l.faults = append(l.faults, faultText(fmt.Sprintf("%s could not list the TLSA records at %s", service, strings.TrimSuffix(place.Name, ".")), errs[i]))
			continue
		}
		l.listed[place] = []string{}
		for _, record := range lists[i] {
			l.listed[place] = append(l.listed[place], record.String())
		}
	}
}

// nextTLSA returns when something may change; zero if only the hourly pass can tell.
func (t *tlsa) nextTLSA() time.Time {
	if t == nil {
		return time.Time{}
	}
	next := t.plan.Next
	if !t.again.IsZero() && (next.IsZero() || t.again.Before(next)) {
		next = t.again
	}
	return next
}

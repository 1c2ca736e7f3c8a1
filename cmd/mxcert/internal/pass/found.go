package pass

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/deploy/mx"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Names that looks at the MX records of mail domains find. A look runs beside a pass, and nothing that is due waits for it: a renewal is
// ordered for the names that earlier looks have found. If nothing is due, the pass waits for the look for a moment, so that it can act on
// what it finds. Only `renew --now` waits before an order, because then the names of this look count at once.
//
// A found name is optional. In addition, whatever makes an order fail that only adds found names, the names are left out, and the pass
// goes on: the certificate in service has all that is configured. A name that is found no longer is no reason for an order; the
// next certificate does not have it.

const (
	// namesPatience is how long a pass waits for a look. A look at many domains may take lookEach longer for each.
	namesPatience = 10 * time.Second
	lookEach      = 100 * time.Millisecond
	// lookPause is the shortest time between two looks, unless names are to change after a shorter one.
	lookPause = 10 * time.Minute
	// mostLooks limits how many domains are asked about at once.
	mostLooks = 8
)

// namesLook is a look that runs beside a pass.
type namesLook struct {
	at     state.Instant
	done   chan state.Look
	cancel context.CancelFunc
}

// WithFound returns what a certificate wants, with the names that looks have found. The note says why they are not known, or what was
// repaired.
func WithFound(want wanted.Certificate, lineage *state.Lineage) (with wanted.Certificate, names state.Names, note string) {
	return withFound(want, lineage, nil)
}

// withFound is WithFound with the names that only other hosts of the fleet want; nil for those that are stored.
func withFound(want wanted.Certificate, lineage *state.Lineage, others []state.OtherName) (with wanted.Certificate, names state.Names, note string) {
	with, over := want, []wanted.Found(nil)
	if len(want.MailDomains) > 0 {
		with, names, over, note = withLooks(want, lineage)
	}
	if want.InFleet {
		if others == nil {
			others = lineage.Others()
		}
		var more []wanted.Found
		with, more = withOthers(with, others)
		over = append(over, more...)
	}
	if len(over) > 0 {
		var list []string
		for _, f := range over {
			list = append(list, f.Name)
		}
		note = fmt.Sprintf("%s: too many for the certificate, because the CA certifies at most %d names together; list the domains in another certificate",
			finding.Quote(strings.Join(list, ", "), finding.MostQuoted), len(with.Names))
	}
	return with, names, note
}

// withLooks adds what looks have found.
func withLooks(want wanted.Certificate, lineage *state.Lineage) (with wanted.Certificate, names state.Names, over []wanted.Found, note string) {
	names, note, err := lineage.Names()
	if err != nil {
		note = "which names looks at DNS have found is not known: " + err.Error()
	}
	with, over = want.WithFound(foundNames(names.Wanted()))
	return with, names, over, note
}

func foundNames(seen []state.SeenName) (list []wanted.Found) {
	for _, s := range seen {
		list = append(list, wanted.Found{Name: s.Name, Reason: s.Reason})
	}
	return list
}

// takeFound adds the names that looks have found to what is wanted.
func (p *pass) takeFound() {
	with, names, note := withFound(p.want, p.lineage, p.others)
	p.want, p.found = with, names
	if note != "" {
		p.say("warning", note) // the report has it, too
	}
}

// startLook starts a look at names if its time has come.
func (p *pass) startLook(ctx context.Context) {
	switch {
	case len(p.want.MailDomains) == 0 || p.options.DryRun || p.options.DeployOnly || p.options.Rollback || p.options.Woken:
		return
	case !p.options.Force && !p.found.Due(now(), min(lookPause, p.want.ConfirmAfter)):
		return
	}
	ctx, cancel := context.WithTimeout(ctx, namesPatience+time.Duration(len(p.want.MailDomains))*lookEach)
	look := &namesLook{at: now(), done: make(chan state.Look, 1), cancel: cancel}
	want := p.want
	go func() { look.done <- lookForNames(ctx, want) }()
	p.look = look
}

// useLook waits for the look if nothing is due, or if a person wants its names at once, and takes what it finds.
func (p *pass) useLook(ctx context.Context) {
	if p.look == nil || !p.options.Force && p.anyDue() {
		return
	}
	select {
	case look := <-p.look.done:
		if p.fold(ctx, look) {
			p.chooseNames()
			p.restartTLSA(ctx)
		}
	case <-time.After(namesPatience):
		p.say("names", "DNS does not answer in time about mail_domains; the names stay as they are")
	case <-ctx.Done():
	}
}

func (p *pass) anyDue() bool {
	names := settled(p.want, p.have.Record)
	for i := range p.want.Keys {
		if whyDue(p.have, p.want, i, names) != "" {
			return true
		}
	}
	return false
}

// endLook takes what a look has found that the pass did not wait for, and notes when the next look may decide something.
func (p *pass) endLook(ctx context.Context, r *report.Certificate) {
	if len(p.want.MailDomains) == 0 {
		return
	}
	changed := false
	if p.look != nil {
		select {
		case look := <-p.look.done:
			changed = p.fold(ctx, look)
			r.Awaited = awaited(p.want, p.found)
		case <-ctx.Done():
			p.look.cancel()
		}
	}
	if changed && p.have != nil {
		if err := p.lineage.Save(p.have.Record); err != nil {
			p.warn(err.Error())
		}
		r.NextLook = time.Now()
	} else if in, ok := p.found.Next(now(), p.want.ConfirmAfter); ok {
		r.NextLook = time.Now().Add(schedule.Spread(in))
	}
}

// fold stores what a look has found, and reports whether other names are wanted now.
func (p *pass) fold(ctx context.Context, look state.Look) (changed bool) {
	at := p.look.at
	p.look.cancel()
	p.look = nil
	if ctx.Err() != nil {
		return false // it was interrupted
	}
	err := p.lineage.ChangeNames(ctx, func(n *state.Names) bool {
		changed = n.Fold(look, at, p.want.ConfirmAfter, p.options.Force)
		p.found = *n
		return true
	})
	if err != nil {
		p.warn("what DNS says about mail_domains could not be stored: " + err.Error())
		return false
	}
	if changed {
		before := p.want.Found
		p.takeFound()
		p.tellNames(before)
	}
	return changed
}

// tellNames says which names are wanted now and were not before, and the other way round, and puts it into the history.
func (p *pass) tellNames(before []wanted.Found) {
	missing := func(f wanted.Found, list []wanted.Found) bool {
		return !slices.ContainsFunc(list, func(other wanted.Found) bool { return other.Name == f.Name })
	}
	tell := func(event, text string) {
		p.say("names", text)
		p.have.Record.Log(state.Event{At: time.Now(), Event: event, Message: text})
	}
	for _, f := range p.want.Found {
		if missing(f, before) {
			tell("name-found", fmt.Sprintf("%s (%s) is wanted now", f.Name, f.Reason))
		}
	}
	for _, f := range before {
		if missing(f, p.want.Found) {
			tell("name-gone", fmt.Sprintf("%s (%s) is not found any more; the next certificate does not have it", f.Name, f.Reason))
		}
	}
}

// reasonMX is the reason of a name that is an MX host of a domain.
func reasonMX(domain string) string { return "MX of " + domain }

// reasonSelf is the reason of the host's own name.
const reasonSelf = "host name"

// lookForNames asks for the MX hosts of all mail domains, and for the host's own name if one of them is this host.
func lookForNames(ctx context.Context, want wanted.Certificate) (look state.Look) {
	own, err := mx.Own(want.PublicAddresses)
	if err != nil {
		return state.Look{Unsure: true, Findings: []finding.Finding{finding.New("own-addresses", finding.Error, "%v", err).Next("list the addresses in public_addresses")}}
	}
	resolver := want.Resolver()
	found := make([]mx.Found, len(want.MailDomains))
	var group errgroup.Group
	group.SetLimit(mostLooks)
	for i, domain := range want.MailDomains {
		group.Go(func() error {
			found[i] = mx.Look(ctx, resolver, domain, own)
			return nil
		})
	}
	_ = group.Wait() // what failed is in found
	for _, f := range found {
		look.Unsure = look.Unsure || f.Err != nil || len(f.Unsure) > 0
		for _, one := range f.Findings {
			if one.Severity != finding.OK && len(look.Findings) < mostFindings {
				look.Findings = append(look.Findings, one)
			}
		}
	}
	look.Names = inTurn(found)
	if len(look.Names) > 0 {
		self, err := mx.Self(ctx, resolver, mx.HostName(), own)
		look.Unsure = look.Unsure || err != nil
		if self != "" {
			look.Names = append(look.Names, state.SeenName{Name: self, Reason: reasonSelf})
		}
	}
	return look
}

// inTurn lists the first name of each domain, then the second of each, and so on. A certificate has room for a limited number of names, and the
// owner of one domain must not take the room of the others with many MX hosts.
func inTurn(found []mx.Found) (list []state.SeenName) {
	for i, more := 0, true; more; i++ {
		more = false
		for _, f := range found {
			if i < len(f.Names) {
				more = true
				list = append(list, state.SeenName{Name: f.Names[i].Name, Reason: reasonMX(f.Names[i].Domain)})
			}
		}
	}
	return list
}

// mostFindings limits the findings that are stored and shown.
const mostFindings = 20

// foundOf returns the reasons of the names in an order that looks have found.
func (p *pass) foundOf(names []string) map[string]string {
	reasons := map[string]string{}
	for _, name := range names {
		if reason := p.want.Reason(name); reason != "" {
			reasons[name] = reason
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return reasons
}

// fresh lists the names of the orders of this pass that looks have found, and that no current certificate has.
func (p *pass) fresh() (names []string) {
	for _, f := range p.want.Found {
		if slices.Contains(p.names, f.Name) && !p.hasName(f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// addsOnly reports whether an order for a key type is due only because looks have found names.
func (p *pass) addsOnly(i int) bool {
	fresh := p.fresh()
	if len(fresh) == 0 || p.have.Bundles[i] == nil {
		return false
	}
	isFresh := func(name string) bool { return slices.Contains(fresh, name) }
	without := p.want
	without.Names = slices.DeleteFunc(slices.Clone(without.Names), isFresh)
	without.Optional = slices.DeleteFunc(slices.Clone(without.Optional), isFresh)
	return whyDue(p.have, without, i, settled(without, p.have.Record)) == ""
}

// leaveFresh leaves out the names that looks have found and that no current certificate has. It reports whether there are any.
func (p *pass) leaveFresh(err error, i int, placed bool) bool {
	fresh := p.fresh()
	for _, name := range fresh {
		p.leave(&acme.NameError{Name: name, Cause: err}, placed)
	}
	if len(fresh) > 0 {
		p.keepLeftOut(p.want.Keys[i])
	}
	return len(fresh) > 0
}

// refusedTogether reports whether a CA refuses an order without saying which name is wrong. It may have too many names.
func refusedTogether(err error) bool { return report.KindOf(err) == "ca-refused" }

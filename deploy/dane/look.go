package dane

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// View is what one look has found at one owner.
type View struct {
	Owner Owner
	At    state.Instant // before the first question

	// Recursive is what a recursive resolver answers. Its state says whether senders use the records.
	Recursive resolve.Set[resolve.TLSA]
	// Steps are the names on the way: the owner, and where CNAME records lead from it, each with what the servers of its zone answer. The
	// last one holds the records, or should. If servers disagree about an alias, all of its targets are here.
	Steps []Step
	Aside []Step // names to which only servers lead that do not count
	Err   error  // a zone or its servers were not found, or there are too many aliases: an error is never "no records"
}

// Step is one name on the way to the records.
type Step struct {
	Name    string // fully qualified, lower case
	Served  resolve.Served[resolve.TLSA]
	Ignored []bool                // which of Served.Answers do not count, because of Settings.Ignore
	Serials []resolve.ServerState // the SOA serial of each of Served.Servers; nil unless [View.AskSerials] was called
}

// Look asks every address of every server for the TLSA records of an owner, along its aliases. A server that does not answer is asked a second
// time before it counts as silent.
func Look(ctx context.Context, r *resolve.Resolver, owner Owner, s Settings, at state.Instant) View {
	v := View{Owner: owner, At: at}
	var wait sync.WaitGroup
	wait.Go(func() { v.Recursive = r.FreshTLSA(ctx, owner.Name()) })
	w := walk{resolver: r, settings: s, owner: fqdn(owner.Name()), known: map[string]bool{}}
	if v.Steps, v.Err = w.follow(ctx, []hop{{name: w.owner}}, false); v.Err == nil {
		v.Aside = w.aside(ctx, v.Steps)
	}
	wait.Wait()
	if v.Err != nil && ctx.Err() == nil && v.Recursive.State == resolve.Bogus && v.Recursive.Err != nil {
		v.Err = v.Recursive.Err // the better reason: without a validator's word, nothing in the zone can be found
	}
	v.lastFinal()
	return v
}

// lastFinal moves the step at which a recursive resolver arrives to the end, if servers disagree about the way.
func (v *View) lastFinal() {
	final := fqdn(v.Recursive.Final)
	for i, step := range v.Steps {
		if step.Name == final && i < len(v.Steps)-1 && !step.leads() {
			v.Steps = append(slices.Delete(v.Steps, i, i+1), step)
			return
		}
	}
}

// leads reports whether a server that counts has an alias at the name.
func (s Step) leads() bool {
	for i, a := range s.Served.Answers {
		if a.Alias != "" && !s.Ignored[i] {
			return true
		}
	}
	return false
}

// AskSerials asks every server on the way for the SOA serial of its zone, for people who want to know which server lags.
func (v *View) AskSerials(ctx context.Context, r *resolve.Resolver) {
	var wait sync.WaitGroup
	for i := range v.Steps {
		step := &v.Steps[i]
		wait.Go(func() { step.Serials = r.Survey(ctx, step.Served.Delegation) })
	}
	wait.Wait()
}

// ignores reports whether a server does not count: by its name, its address, or its address with the port.
func (s Settings) ignores(server resolve.Server) bool {
	address, _, _ := net.SplitHostPort(server.Address)
	return slices.ContainsFunc(s.Ignore, func(name string) bool {
		return strings.EqualFold(resolve.PlainName(name), server.Host) || name == address || name == server.Address
	})
}

func fqdn(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

func stepAt(steps []Step, name string) *Step {
	if i := slices.IndexFunc(steps, func(s Step) bool { return s.Name == name }); i >= 0 {
		return &steps[i]
	}
	return nil
}

// Sets returns the different record sets that servers give, those that do not count included, each with its longest TTL along the aliases. A
// server that says that there are no records gives the empty set; one that does not answer gives none.
func (v View) Sets() []Set {
	return v.setsAt(at{fqdn(v.Owner.Name()), mostAliases}, map[at][]Set{})
}

// at is a name on the way, and how many aliases may follow.
type at struct {
	name string
	hops int
}

// setsAt returns what is given at a name, and where its aliases lead.
func (v View) setsAt(here at, known map[at][]Set) (sets []Set) {
	if sets, found := known[here]; found {
		return sets
	}
	step := cmp.Or(stepAt(v.Steps, here.name), stepAt(v.Aside, here.name))
	if step == nil || here.hops < 0 {
		return nil
	}
	for _, a := range step.Served.Answers {
		switch {
		case a.Fault != "":
		case a.Alias != "":
			for _, set := range v.setsAt(at{fqdn(a.Alias), here.hops - 1}, known) {
				sets = append(sets, Set{Records: set.Records, TTL: max(set.TTL, a.TTL)})
			}
		default:
			sets = append(sets, Set{Records: texts(a.Records), TTL: a.TTL})
		}
	}
	slices.SortStableFunc(sets, func(a, b Set) int {
		return cmp.Or(slices.Compare(a.Records, b.Records), cmp.Compare(b.TTL, a.TTL))
	})
	known[here] = slices.CompactFunc(sets, func(a, b Set) bool { return slices.Equal(a.Records, b.Records) }) // the longest TTL is the first
	return known[here]
}

// texts returns records as text, sorted, each once.
func texts(records []resolve.TLSA) []string {
	var list []string
	for _, r := range records {
		list = append(list, r.String())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Everywhere reports whether every address of every server that counts gives a record, with a signature that is valid if the zone is signed;
// missing names those that do not. Without a single server that counts, it is nowhere.
func (v View) Everywhere(record resolve.TLSA) (ok bool, missing []string) {
	if v.Err != nil {
		return false, nil
	}
	text, asked, missed := record.String(), 0, map[string]bool{}
	v.each(fqdn(v.Owner.Name()), map[string]bool{}, func(step *Step, i int) {
		asked++
		a := step.Served.Answers[i]
		if step.fault(i) != "" || a.Alias == "" && !slices.Contains(texts(a.Records), text) {
			missed[a.Server.String()] = true
		}
	})
	for server := range missed {
		missing = append(missing, server)
	}
	slices.Sort(missing)
	return asked > 0 && len(missing) == 0, missing
}

// each visits the answers that count, at a name and where they lead.
func (v View) each(name string, visited map[string]bool, visit func(*Step, int)) {
	step := stepAt(v.Steps, name)
	if step == nil || visited[name] {
		return
	}
	visited[name] = true
	for i, a := range step.Served.Answers {
		if step.Ignored[i] {
			continue
		}
		visit(step, i)
		if a.Alias != "" {
			v.each(fqdn(a.Alias), visited, visit)
		}
	}
}

// SignedUntil is when the first signature on the way expires, of the servers that count; zero if the zone is not signed.
func (v View) SignedUntil() (first time.Time) {
	note := func(until time.Time) {
		if !until.IsZero() && (first.IsZero() || until.Before(first)) {
			first = until
		}
	}
	v.each(fqdn(v.Owner.Name()), map[string]bool{}, func(step *Step, i int) {
		note(step.Served.Keys.Until)
		note(step.Served.Answers[i].Until)
	})
	return first
}

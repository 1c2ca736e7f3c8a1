package dane

import (
	"context"
	"fmt"
	"maps"

	"mxcert/acme/resolve"
)

// mostAliases limits the CNAME records on the way to the records. Resolvers give up at about a dozen.
// mostNames limits the names that are looked at: servers that disagree lead to several.
const (
	mostAliases = 10
	mostNames   = 32
)

// walk follows the aliases from a name.
type walk struct {
	resolver *resolve.Resolver
	settings Settings
	owner    string
	known    map[string]bool
}

// hop is a name to look at, with the number of aliases before it.
type hop struct {
	name string
	hops int
}

// follow looks at names, and at all names to which servers say that they lead. With aside set, servers that do not count lead on, too, and what
// cannot be looked at is left out; the error is then nil.
func (w *walk) follow(ctx context.Context, next []hop, aside bool) (steps []Step, err error) {
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		if w.known[at.name] {
			continue
		}
		w.known[at.name] = true
		switch {
		case len(w.known) <= mostNames:
		case aside:
			return steps, nil
		default:
			return steps, lookError{fmt.Sprintf("the servers of %s lead to more than %d names", resolve.PlainName(w.owner), mostNames), "make them agree about its CNAME record"}
		}
		served, err := w.resolver.ServedTLSA(ctx, at.name)
		switch {
		case err != nil && aside:
			continue
		case err != nil:
			return steps, err
		}
		step := Step{Name: at.name, Served: served, Ignored: make([]bool, len(served.Answers))}
		step.Served.Unknown = maps.Clone(served.Unknown)
		maps.DeleteFunc(step.Served.Unknown, func(host string, _ error) bool { return w.settings.ignores(resolve.Server{Host: host}) })
		for i, a := range served.Answers {
			step.Ignored[i] = w.settings.ignores(a.Server)
			switch {
			case a.Alias == "" || step.Ignored[i] && !aside:
			case at.hops < mostAliases:
				next = append(next, hop{fqdn(a.Alias), at.hops + 1})
			case !aside:
				return append(steps, step), lookError{fmt.Sprintf("%s has more than %d CNAME records in a row, and resolvers give up", resolve.PlainName(w.owner), mostAliases), "make it an alias of the name that holds the TLSA records"}
			}
		}
		steps = append(steps, step)
	}
	if loop := loopIn(steps, w.owner, map[string]bool{}); loop != "" && !aside {
		return steps, lookError{fmt.Sprintf("the CNAME records of %s form a loop", resolve.PlainName(w.owner)), "remove the one at " + resolve.PlainName(loop)}
	}
	return steps, nil
}

// aside looks at the names to which only servers lead that do not count.
func (w *walk) aside(ctx context.Context, steps []Step) []Step {
	var next []hop
	for _, step := range steps {
		for i, a := range step.Served.Answers {
			if step.Ignored[i] && a.Alias != "" {
				next = append(next, hop{name: fqdn(a.Alias)})
			}
		}
	}
	found, _ := w.follow(ctx, next, true)
	return found
}

// loopIn returns the name at which a way through aliases comes to itself again; "" if none does. state has the names on the way (false) and
// those that lead to no loop (true).
func loopIn(steps []Step, name string, state map[string]bool) string {
	done, known := state[name]
	step := stepAt(steps, name)
	switch {
	case done || step == nil:
		return ""
	case known:
		return name
	}
	state[name] = false
	for i, a := range step.Served.Answers {
		if a.Alias == "" || step.Ignored[i] {
			continue
		}
		if loop := loopIn(steps, fqdn(a.Alias), state); loop != "" {
			return loop
		}
	}
	state[name] = true
	return ""
}

// lookError says what makes it impossible to find records.
type lookError struct{ text, hint string }

func (e lookError) Error() string { return e.text }

// Hint says what to do.
func (e lookError) Hint() string { return e.hint }

// Kind is dane.
func (e lookError) Kind() string { return "dane" }

package dane

import (
	"context"
	"sync"

	"mxcert/acme/resolve"
)

// Presence is whether an owner has TLSA records.
type Presence string

// The kinds. An error is never "no records".
const (
	Present Presence = "present"
	Absent  Presence = "absent"  // a resolver says that there are none
	Unclear Presence = "unclear" // the question was not answered, or the answer is bogus
)

// mostAsked limits the questions of Presences that are under way at once.
const mostAsked = 8

// Presences asks a recursive resolver one question for each owner. It is for certificates for which the configuration does not mention
// TLSA records, and of which most have none.
func Presences(ctx context.Context, r *resolve.Resolver, owners []Owner) []Presence {
	list, turns := make([]Presence, len(owners)), make(chan struct{}, mostAsked)
	var wait sync.WaitGroup
	for i, owner := range owners {
		wait.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			list[i] = presence(r.FreshTLSA(ctx, owner.Name()))
		})
	}
	wait.Wait()
	return list
}

func presence(set resolve.Set[resolve.TLSA]) Presence {
	switch {
	case set.Denied():
		return Absent
	case len(set.Records) > 0:
		return Present
	}
	return Unclear
}

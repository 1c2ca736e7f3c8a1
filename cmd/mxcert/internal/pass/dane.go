package pass

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
)

// TLSA records. A look at them runs beside a pass. It is joined before something depends on it: an order, a change of what is served, or the
// end of the pass. The gate (dane_gate.go) stands before each change of what is served. At the end of a pass mxcert derives what to do next
// (dane_roll.go), and does it (dane_advance.go): store a next key (dane_next.go), add records, remove records. What is remembered is stored by
// dane_store.go.
//
// A failure here never stops the renewal or the deployment of a certificate with the same key.

// tlsaPatience limits the look at the TLSA records.
const tlsaPatience = 20 * time.Second

// tlsa is what a pass knows about the TLSA records of its certificate.
type tlsa struct {
	name     string // of the certificate
	settings dane.Settings
	owners   []dane.Owner
	state    dane.State
	old      func(spki string) (bundle.KeyType, bool) // see oldKeys
	stored   string                                   // the state as it is stored, without the times of looks
	storedAt time.Time

	look     chan tlsaLook // under way; nil if it is joined
	cancel   context.CancelFunc
	at       state.Instant
	views    []dane.View
	closer   bool // another key may be served: see denied
	outdated bool // there was an order since the look
	quiet    bool // no name has records, none is remembered, and nothing is to be published

	types  []bundle.KeyType           // that are wanted
	keys   map[bundle.KeyType]nextKey // the stored next keys that can be read
	unread map[bundle.KeyType]string  // why others cannot
	plan   dane.Plan
	again  time.Time // when something may change because of what this pass did
	faults []string  // what senders would not accept

	// What is known beside the looks, see dane.Facts.
	places          []dane.Place
	listed          map[dane.Place][]string
	serving         map[string]bool
	names           []string
	allSeen, probed bool
	unasked         bool       // the service that holds the zone is not asked: a look changes nothing
	fleet           *fleetTLSA // nil without a fleet
	edited          bool       // records were added or removed
	unsure          bool       // whether the service does what it was asked is not known
	failed          bool       // the service that holds the zone could not be asked, or did not do what it was asked
}

// tlsaLook is what a look has found. There are no views if no name has records.
type tlsaLook struct {
	at     state.Instant
	views  []dane.View
	places []dane.Place
	listed map[dane.Place][]string
	faults []string // of the service that holds the zone
}

// startTLSA reads what is remembered and starts the look.
func (p *pass) startTLSA(ctx context.Context) {
	t := readTLSA(p.want, p.lineage, p.warn)
	if t == nil {
		return
	}
	p.tlsa = t
	p.startFleetTLSA()
	p.takeAsked()
	t.closer = p.options.NewKey || p.options.Roll != nil || p.options.Rollback
	p.beginLook(ctx)
}

// beginLook starts a look at the records.
func (p *pass) beginLook(ctx context.Context) {
	t := p.tlsa
	ctx, t.cancel = context.WithTimeout(ctx, tlsaPatience)
	t.look = make(chan tlsaLook, 1)
	clock := p.outsideClock(t)
	cheap := t.settings.Unset && !t.remembers()
	owners, settings, resolver, closer := t.owners, t.settings, p.resolver, t.closer
	service := p.service(t)
	go func() {
		look := lookAtTLSA(ctx, resolver, owners, settings, cheap && !closer, clock)
		if cheap && look.denied() {
			look.views = nil
		}
		if service != nil {
			service(ctx, &look)
		}
		t.look <- look
	}()
}

// restartTLSA begins the look anew, because other names are wanted now: the gate must know what senders to them hold.
func (p *pass) restartTLSA(ctx context.Context) {
	if p.tlsa != nil {
		p.tlsa.cancel()
		p.tlsa = nil
	}
	p.startTLSA(ctx)
}

// readTLSA returns what is remembered about the records; nil if nothing is to be done about them. What cannot be read is forgotten: the
// first look then takes the careful side.
func readTLSA(want wanted.Certificate, lineage *state.Lineage, warn func(string)) *tlsa {
	t := &tlsa{name: want.Name, settings: want.DANE(), owners: want.Owners(), types: want.Keys, keys: map[bundle.KeyType]nextKey{}, unread: map[bundle.KeyType]string{}, serving: map[string]bool{}}
	t.old = oldKeys(lineage)
	switch err := lineage.TLSA(&t.state); {
	case errors.Is(err, fs.ErrNotExist):
		t.state = dane.State{}
	case err != nil:
		warn("what mxcert remembers about the TLSA records cannot be read, so it starts anew: " + err.Error())
		t.state = dane.State{}
	default:
		t.stored = t.print()
	}
	t.state.Version = state.Version
	if t.state.Memory == nil {
		t.state.Memory = dane.Memory{}
	}
	if t.state.Keys == nil {
		t.state.Keys = map[bundle.KeyType]*dane.Roll{}
	}
	for _, h := range t.state.Memory {
		if h != nil && h.Last.At.After(t.storedAt) {
			t.storedAt = h.Last.At
		}
	}
	if t.settings.Mode == dane.Off && t.state.Effective(t.settings) == dane.Off {
		return nil
	}
	for _, key := range want.Keys {
		switch next, err := readNext(lineage, key); {
		case err == nil:
			t.keys[key] = next
		case !errors.Is(err, fs.ErrNotExist):
			t.unread[key] = report.OneLine(err.Error())
		}
	}
	return t
}

// remembers reports whether there is something to look after, whatever DNS says now.
func (t *tlsa) remembers() bool {
	for _, h := range t.state.Memory {
		if h != nil && (len(h.Known) > 0 || h.Crowded != nil) {
			return true
		}
	}
	return len(t.state.Ours)+len(t.state.Former) > 0
}

// counts reports whether counted time matters: a set or a key is on its way out, or a roll waits.
func (t *tlsa) counts() bool {
	for _, h := range t.state.Memory {
		if h != nil && (h.Crowded != nil || slices.ContainsFunc(h.Known, func(c dane.Cached) bool { return !c.Given })) {
			return true
		}
	}
	for _, roll := range t.state.Keys {
		if roll != nil && (len(roll.Retired) > 0 || roll.Asked != nil) {
			return true
		}
	}
	return false
}

// lookAtTLSA looks at all owners at once. If cheap is set, it asks a resolver one question for each, and looks closer only if one of them is
// not answered by "no records".
func lookAtTLSA(ctx context.Context, resolver *resolve.Resolver, owners []dane.Owner, s dane.Settings, cheap bool, clock func(context.Context) time.Time) tlsaLook {
	look := tlsaLook{at: now()}
	if cheap && deniedAll(ctx, resolver, owners) {
		return look
	}
	if clock != nil {
		outside := clock(ctx)
		look.at = now()
		look.at.Outside = outside
	}
	look.views = make([]dane.View, len(owners))
	together(len(owners), func(i int) { look.views[i] = dane.Look(ctx, resolver, owners[i], s, look.at) })
	return look
}

// together does n things, several at once.
func together(n int, one func(i int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, mostLooks)
	for i := range n {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			one(i)
		})
	}
	group.Wait()
}

// deniedAll reports whether none of the owners has TLSA records, for certain.
func deniedAll(ctx context.Context, resolver *resolve.Resolver, owners []dane.Owner) bool {
	return !slices.ContainsFunc(dane.Presences(ctx, resolver, owners), func(p dane.Presence) bool { return p != dane.Absent })
}

// outsideClock returns how to ask a clock outside of this host, if that can matter: the CA's Date. nil otherwise.
func (p *pass) outsideClock(t *tlsa) func(context.Context) time.Time {
	if !t.counts() || p.options.DryRun || p.CAs == nil || len(p.CAs.Clients()) == 0 {
		return nil
	}
	client := p.CAs.Clients()[0]
	return func(ctx context.Context) time.Time {
		ctx, cancel := context.WithTimeout(ctx, clockPatience)
		defer cancel()
		at, err := client.Clock(ctx)
		if err != nil {
			return time.Time{}
		}
		return at
	}
}

// clockPatience limits the question for the time: a look must not wait for a CA that is down.
const clockPatience = 5 * time.Second

// joinTLSA waits for the look, folds it into what is remembered, and stores that. It is nothing to do a second time.
func (p *pass) joinTLSA(ctx context.Context) {
	t := p.tlsa
	if t == nil || t.look == nil {
		return
	}
	look := <-t.look // ends with its context
	t.cancel()
	t.look, t.at, t.views, t.places, t.listed = nil, look.at, look.views, look.places, look.listed
	t.quiet = look.views == nil
	p.warnAll(look.faults)
	t.failed = len(look.faults) > 0
	if ctx.Err() != nil && len(look.views) > 0 {
		// A look that was interrupted says nothing about DNS.
		for i := range t.views {
			t.views[i].Err = errors.Join(t.views[i].Err, ctx.Err())
		}
		return
	}
	for _, v := range t.views {
		t.state.Memory.Note(v, t.settings)
	}
	if !t.quiet {
		t.state.Memory.Keep(t.owners, t.settings)
		p.keepTLSA()
	}
	p.planTLSA()
}

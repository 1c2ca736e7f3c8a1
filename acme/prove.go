package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// finder returns where the record of a domain has to be. It waits until that is known.
type finder func() (resolve.Place, error)

// locate starts to find out where each record of a pending order has to be, once for its creation and removal, and which
// servers have the zones.
func (f *flow) locate(ctx context.Context) {
	f.places = map[string]finder{}
	var finders []finder
	for _, name := range f.Names {
		domain := strings.TrimPrefix(name, "*.")
		if f.places[domain] == nil {
			f.places[domain] = sync.OnceValues(func() (place resolve.Place, err error) {
				defer rescued(&err)
				return f.Resolver.Locate(ctx, "_acme-challenge."+domain)
			})
			finders = append(finders, f.places[domain])
		}
	}
	go func() {
		_ = inParallel(ctx, len(finders), func(i int) error { // the caller that needs the place gets the error
			if place, err := finders[i](); err == nil && f.Require != resolve.None {
				_, _ = f.Resolver.Delegation(ctx, place.Zone) // it is then in memory for the look at propagation
			}
			return nil
		})
	}()
}

// turn is one name whose account can handle only one record at a time.
type turn struct {
	pending
	zone  string        // of the account
	pause time.Duration // between two names of the account
}

// divide separates the names that are proven together from those that are proven one after another. The latter are in the order of their
// accounts. It fails if an account cannot be set up, before any record is made.
func (f *flow) divide(todo []pending) (together []pending, inTurn []turn, err error) {
	shares, err := f.Accounts.Divide(recordsOf(todo))
	problems := []error{err}
	for _, share := range shares {
		if _, err := share.Solver(); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, nil, err
	}
	for _, share := range shares {
		pause, sequential := share.Sequential()
		for _, p := range todo {
			if account, _ := f.Accounts.Of(p.record.Place); account.Zone != share.Zone {
				continue
			}
			if sequential {
				inTurn = append(inTurn, turn{pending: p, zone: share.Zone, pause: pause})
			} else {
				together = append(together, p)
			}
		}
	}
	return together, inTurn, nil
}

// batch is a set of records that are created, proven and removed together.
type batch struct {
	todo    []pending
	records []dnsprovider.TXT
	parts   []part
}

// part is what one account does for a batch.
type part struct {
	dnsprovider.Share
	forget func() error // removes it from the journal
}

// note writes the records that are about to be created into the journal, with an entry for each account.
func (f *flow) note(todo []pending) (*batch, error) {
	b := &batch{todo: todo, records: recordsOf(todo)}
	shares, err := f.Accounts.Divide(b.records)
	if err != nil {
		return nil, err
	}
	for _, share := range shares {
		forget, err := f.Lineage.Note(state.Entry{Provider: share.Provider, Account: share.Zone, Records: journaled(share.Records), Created: time.Now().UTC()})
		if err != nil {
			return nil, errors.Join(err, b.forget())
		}
		b.parts = append(b.parts, part{Share: share, forget: forget})
	}
	return b, nil
}

// forget removes the batch from the journal before any of its records is created.
func (b *batch) forget() error {
	var problems []error
	for _, p := range b.parts {
		problems = append(problems, p.forget())
	}
	return errors.Join(problems...)
}

// each calls do for the parts in parallel, and waits for all of them: a failure of one account does not keep the others from finishing.
func (b *batch) each(do func(part) error) error {
	problems := make([]error, len(b.parts))
	var wait sync.WaitGroup
	for i, p := range b.parts {
		wait.Go(func() { problems[i] = recovering(func(int) error { return do(p) }, 0) })
	}
	wait.Wait()
	if len(problems) == 1 {
		return problems[0]
	}
	return errors.Join(problems...)
}

// proveTogether proves all names at once, with one change of each zone if the provider can. The records are removed while
// the CA makes the certificate.
func (f *flow) proveTogether(ctx context.Context, todo []pending, verdict func() error) (cleaned func(), err error) {
	b, err := f.note(todo)
	if err != nil {
		return func() {}, err
	}
	if err := f.prove(ctx, b, verdict); err != nil {
		f.warn(f.cleanUp(ctx, b))
		return func() {}, err
	}
	done := make(chan error, 1)
	go func() { done <- f.cleanUp(ctx, b) }()
	return func() { f.warn(<-done) }, nil
}

// proveMixed proves the names of some accounts at once, if there are any, and then those of the others one after another.
func (f *flow) proveMixed(ctx context.Context, together []pending, inTurn []turn) (cleaned func(), err error) {
	cleaned = func() {}
	if len(together) > 0 {
		cleaned, err = f.proveTogether(ctx, together, func() error {
			return atMost(ctx, f.AtOnce(), len(together), func(i int) error { return f.awaitAuthorization(ctx, together[i]) })
		})
		if err != nil {
			return cleaned, err
		}
	}
	return cleaned, f.proveInTurn(ctx, inTurn)
}

// proveInTurn proves one name after another, with a pause between two of one account, for a provider that can handle only one record at a
// time.
func (f *flow) proveInTurn(ctx context.Context, todo []turn) error {
	for i, t := range todo {
		if i > 0 && todo[i-1].zone == t.zone {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(t.pause):
			}
		}
		b, err := f.note([]pending{t.pending})
		if err != nil {
			return err
		}
		err = f.prove(ctx, b, func() error { return f.awaitAuthorization(ctx, t.pending) })
		if f.warn(f.cleanUp(ctx, b)); err != nil {
			return err
		}
	}
	return f.awaitOrder(ctx, legoacme.StatusPending)
}

// prove creates the records, waits until they are visible, and asks the CA to look.
func (f *flow) prove(ctx context.Context, b *batch, verdict func() error) (err error) {
	defer rescued(&err)
	if err := b.each(func(p part) error { return f.present(ctx, b, p) }); err != nil {
		return err
	}
	f.Progress("dns", fmt.Sprintf("%d TXT %s made in %s", len(b.records), plural(len(b.records), "record"), strings.Join(zones(b.records), ", ")))
	report := func(text string) { f.Progress("propagation", text) }
	if err := f.Resolver.AwaitTXT(ctx, expected(b.records), f.Require, f.Patience, report); err != nil {
		return f.unseen(ctx, b, err)
	}
	f.proving = true
	if err := f.accept(ctx, b.todo); err != nil {
		return err
	}
	if err := verdict(); err != nil {
		return err
	}
	all := "all "
	if len(b.records) == 1 {
		all = ""
	}
	f.Progress("validation", fmt.Sprintf("%s has seen %s%d %s", f.ca(), all, len(b.records), plural(len(b.records), "record")))
	return nil
}

// cleanUp removes the records even if the context has ended, because a stop must not leave any. Records that cannot be removed
// stay in the journal.
func (f *flow) cleanUp(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	return b.each(func(p part) error {
		if err := p.CleanUp(ctx); err != nil {
			return err
		}
		return p.forget()
	})
}

func (f *flow) warn(err error) {
	if err != nil {
		f.Progress("dns", fmt.Sprintf("warning: TXT records may remain; the next run removes them: %s", finding.Line(err)))
	}
}

func recordsOf(todo []pending) []dnsprovider.TXT {
	records := make([]dnsprovider.TXT, len(todo))
	for i, p := range todo {
		records[i] = p.record
	}
	return records
}

func journaled(records []dnsprovider.TXT) []state.TXT {
	out := make([]state.TXT, len(records))
	for i, r := range records {
		out[i] = state.TXT{Domain: r.Domain, Name: r.Name, Zone: r.Zone, Value: r.Value, Token: r.Token, KeyAuth: r.KeyAuth}
	}
	return out
}

// expected groups the values by name: a wildcard and its apex share one.
func expected(records []dnsprovider.TXT) []resolve.TXT {
	var out []resolve.TXT
	for _, r := range records {
		i := slices.IndexFunc(out, func(t resolve.TXT) bool { return t.Name == r.Name })
		if i < 0 {
			out = append(out, resolve.TXT{Name: r.Name, Zone: r.Zone})
			i = len(out) - 1
		}
		out[i].Values = append(out[i].Values, r.Value)
	}
	return out
}

// urls returns the URLs of the CA's answers about a proof.
func urls(todo []pending) []string {
	var out []string
	for _, p := range todo {
		out = append(out, p.url, p.challenge.URL)
	}
	return out
}

func zones(records []dnsprovider.TXT) []string {
	var out []string
	for _, r := range records {
		if zone := strings.TrimSuffix(r.Zone, "."); !slices.Contains(out, zone) {
			out = append(out, zone)
		}
	}
	return out
}

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

// batch is a set of records that are created, proven and removed together.
type batch struct {
	todo    []pending
	records []dnsprovider.TXT
	forget  func() error // removes it from the journal
}

// note writes the records that are about to be created into the journal.
func (f *flow) note(todo []pending) (*batch, error) {
	b := &batch{todo: todo, records: make([]dnsprovider.TXT, len(todo))}
	for i, p := range todo {
		b.records[i] = p.record
	}
	var err error
	b.forget, err = f.Lineage.Note(state.Entry{Provider: f.Provider, Records: journaled(b.records), Created: time.Now().UTC()})
	return b, err
}

// proveTogether proves all names at once, with one change of each zone if the provider can. The records are removed while
// the CA makes the certificate.
func (f *flow) proveTogether(ctx context.Context, todo []pending) (cleaned func(), err error) {
	b, err := f.note(todo)
	if err != nil {
		return func() {}, err
	}
	if err := f.prove(ctx, b, func() error { return f.awaitOrder(ctx, legoacme.StatusPending, urls(todo)...) }); err != nil {
		f.warn(f.cleanUp(ctx, b))
		return func() {}, err
	}
	done := make(chan error, 1)
	go func() { done <- f.cleanUp(ctx, b) }()
	return func() { f.warn(<-done) }, nil
}

// proveInTurn proves one name after another, with a pause in between, for a provider that can handle only one record at a
// time.
func (f *flow) proveInTurn(ctx context.Context, todo []pending, pause time.Duration) error {
	for i := range todo {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
		b, err := f.note(todo[i : i+1])
		if err != nil {
			return err
		}
		err = f.prove(ctx, b, func() error { return f.awaitAuthorization(ctx, todo[i]) })
		if f.warn(f.cleanUp(ctx, b)); err != nil {
			return err
		}
	}
	return f.awaitOrder(ctx, legoacme.StatusPending)
}

// prove creates the records, waits until they are visible, and asks the CA to look.
func (f *flow) prove(ctx context.Context, b *batch, verdict func() error) (err error) {
	defer rescued(&err)
	if err := f.Solver.Present(ctx, b.records); err != nil {
		return err
	}
	f.Progress("dns", fmt.Sprintf("%d TXT %s made in %s", len(b.records), plural(len(b.records), "record"), strings.Join(zones(b.records), ", ")))
	report := func(text string) { f.Progress("propagation", text) }
	if err := f.Resolver.AwaitTXT(ctx, expected(b.records), f.Require, f.Patience, report); err != nil {
		return err
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
	err := recovering(func(int) error { return f.Solver.CleanUp(ctx, b.records) }, 0)
	if err == nil {
		err = b.forget()
	}
	return err
}

func (f *flow) warn(err error) {
	if err != nil {
		f.Progress("dns", fmt.Sprintf("warning: TXT records may remain; the next run removes them: %s", finding.Line(err)))
	}
}

// CleanUp removes the records that an earlier run has left, according to the journal. It cannot remove the records of another
// provider, and names them in the error. It also names those that the provider cannot remove, until the authoritative servers show
// that they are gone, or never were there. It says nothing twice.
func CleanUp(ctx context.Context, lineage *state.Lineage, provider string, solver dnsprovider.Solver, resolver *resolve.Resolver, say Progress) error {
	entries, err := lineage.Journal()
	problems := []error{err}
	for _, entry := range entries {
		if entry.Provider != provider {
			err = fmt.Errorf("TXT record %s was created by the provider %s and still exists: remove it by hand", entry.Records[0].Name, entry.Provider)
		} else {
			err = sweep(ctx, lineage, entry, solver, resolver, say)
		}
		said := func(earlier error) bool { return earlier != nil && err != nil && earlier.Error() == err.Error() }
		if !slices.ContainsFunc(problems, said) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// sweep removes the records of one entry, and the entry.
func sweep(ctx context.Context, lineage *state.Lineage, entry state.Entry, solver dnsprovider.Solver, resolver *resolve.Resolver, say Progress) error {
	records := make([]dnsprovider.TXT, len(entry.Records))
	for i, r := range entry.Records {
		records[i] = dnsprovider.TXT{Place: resolve.Place{Name: r.Name, Zone: r.Zone}, Domain: r.Domain, Value: r.Value, Token: r.Token, KeyAuth: r.KeyAuth}
	}
	err := recovering(func(int) error { return solver.CleanUp(ctx, records) }, 0)
	switch {
	case err == nil:
		say("dns", fmt.Sprintf("removed what an earlier run may have left: %d TXT %s", len(records), plural(len(records), "record")))
	case settled(err, entry.Created) && absent(ctx, resolver, records):
		say("dns", "the TXT records of an earlier run are not in DNS")
	default:
		return err
	}
	return lineage.Forget(entry)
}

// publication is how long a provider may take to show a record in DNS that it has accepted.
const publication = time.Hour

// settled reports whether DNS can say whether the records of a failed removal exist: not if the next try may succeed and the provider
// may not have published them yet.
func settled(err error, created time.Time) bool {
	if _, rest := dnsprovider.Forgotten(err); rest == nil {
		return true
	}
	e, ok := errors.AsType[*dnsprovider.Error](err)
	return ok && !e.Temporary() || time.Since(created) > publication
}

// absent reports whether no authoritative server has any of the records.
func absent(ctx context.Context, resolver *resolve.Resolver, records []dnsprovider.TXT) bool {
	for _, r := range expected(records) {
		if gone, err := resolver.Absent(ctx, r); err != nil || !gone {
			return false
		}
	}
	return true
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

package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"golang.org/x/sync/errgroup"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// tokenAlphabet is what tokens are made of (RFC 8555 section 8.1). They go to providers that are programs.
const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// pending is one authorization that has to be proven.
type pending struct {
	url       string // of the authorization
	domain    string
	challenge legoacme.Challenge
	record    dnsprovider.Record
}

// authorize proves control over all names of the order that are not proven yet.
func (f *flow) authorize(ctx context.Context) error {
	if f.order.Status != legoacme.StatusPending {
		return nil
	}
	todo, err := f.unproven(ctx)
	if err != nil {
		return err
	}
	if len(todo) == 0 {
		return f.awaitOrder(ctx, legoacme.StatusPending)
	}
	if err := f.locate(ctx, todo); err != nil {
		return err
	}
	records := make([]dnsprovider.Record, len(todo))
	for i, p := range todo {
		records[i] = p.record
	}
	forget, err := f.Lineage.Note(state.Entry{Provider: f.Provider, Records: journaled(records), Created: time.Now().UTC()})
	if err != nil {
		return err
	}
	proven := f.prove(ctx, todo, records)
	f.cleanUp(ctx, records, forget)
	return proven
}

// prove makes the records, waits until they are seen, and has the CA look.
func (f *flow) prove(ctx context.Context, todo []pending, records []dnsprovider.Record) (err error) {
	defer rescued(&err)
	if err := f.Solver.Present(ctx, records); err != nil {
		return err
	}
	f.Progress("dns", fmt.Sprintf("%d TXT %s made in %s", len(records), plural(len(records), "record"), strings.Join(zones(records), ", ")))
	report := func(text string) { f.Progress("propagation", text) }
	if err := f.Resolver.AwaitTXT(ctx, expected(records), f.Require, f.Patience, report); err != nil {
		return err
	}
	if err := f.accept(ctx, todo); err != nil {
		return err
	}
	if err := f.awaitOrder(ctx, legoacme.StatusPending); err != nil {
		return err
	}
	f.Progress("validation", fmt.Sprintf("%s has seen all %d %s", hostOf(f.stored.Directory), len(records), plural(len(records), "record")))
	return nil
}

// unproven fetches the authorizations in parallel and picks the pending ones with their dns-01 challenge.
func (f *flow) unproven(ctx context.Context) ([]pending, error) {
	if len(f.order.Authorizations) > len(f.Names) {
		return nil, &Error{Stage: "authorization", ErrKind: "ca-error", Charged: true,
			Message: fmt.Sprintf("%s wants %d authorizations for %d names", hostOf(f.stored.Directory), len(f.order.Authorizations), len(f.Names))}
	}
	urls := slices.Compact(slices.Sorted(slices.Values(f.order.Authorizations))) // a CA may name one twice
	found := make([]*pending, len(urls))
	err := inParallel(ctx, len(found), func(i int) error {
		authorization, err := call(f.operation, func() (legoacme.Authorization, error) {
			return f.core.Authorizations.Get(urls[i])
		})
		if err != nil {
			return f.explain("authorization", err)
		}
		if found[i], err = f.pick(authorization); found[i] != nil {
			found[i].url = urls[i]
		}
		return err
	})
	var todo []pending
	for _, p := range found {
		if p != nil {
			todo = append(todo, *p)
		}
	}
	return todo, err
}

// pick gives the challenge of a pending authorization, nil for one that is already valid.
func (f *flow) pick(a legoacme.Authorization) (*pending, error) {
	domain := strings.ToLower(a.Identifier.Value)
	if domain == "" {
		return nil, &Error{Stage: "authorization", ErrKind: "ca-error", temporary: true, Message: hostOf(f.stored.Directory) + " gave an authorization without a name"}
	}
	name := domain
	if a.Wildcard {
		name = "*." + domain
	}
	if !slices.Contains(f.Names, name) {
		return nil, &Error{Stage: "authorization", ErrKind: "ca-error", Charged: true,
			Message: fmt.Sprintf("%s wants proof for %s, which was not asked for", hostOf(f.stored.Directory), quoteWord(name))}
	}
	switch a.Status {
	case legoacme.StatusValid:
		return nil, nil
	case legoacme.StatusPending:
	default:
		return nil, challengeError(f.stored.Directory, domain, a)
	}
	for _, challenge := range a.Challenges {
		if challenge.Type != "dns-01" {
			continue
		}
		if strings.Trim(challenge.Token, tokenAlphabet) != "" || challenge.Token == "" {
			return nil, f.explain("authorization", refusal("the token %.100q is not base64url", challenge.Token))
		}
		keyAuth, err := f.core.GetKeyAuthorization(challenge.Token)
		if err != nil {
			return nil, fmt.Errorf("key authorization for %s: %w", domain, err)
		}
		sum := sha256.Sum256([]byte(keyAuth))
		return &pending{domain: domain, challenge: challenge, record: dnsprovider.Record{
			Domain: domain, Token: challenge.Token, KeyAuth: keyAuth, Value: base64.RawURLEncoding.EncodeToString(sum[:]),
		}}, nil
	}
	return nil, &Error{Stage: "authorization", ErrKind: "ca-refused", Message: fmt.Sprintf("%s offers no dns-01 challenge for %s", hostOf(f.stored.Directory), domain),
		NextStep: "this CA or its policy for the name does not allow DNS validation"}
}

// locate finds, once for making and removing, where each record has to be.
func (f *flow) locate(ctx context.Context, todo []pending) error {
	return inParallel(ctx, len(todo), func(i int) error {
		place, err := f.Resolver.Locate(ctx, "_acme-challenge."+todo[i].domain)
		todo[i].record.Place = place
		return err
	})
}

func (f *flow) accept(ctx context.Context, todo []pending) error {
	return inParallel(ctx, len(todo), func(i int) error {
		if todo[i].challenge.Status != legoacme.StatusPending {
			return nil // an earlier run has accepted it
		}
		_, err := call(f.operation, func() (legoacme.ExtendedChallenge, error) {
			return f.core.Challenges.New(todo[i].challenge.URL)
		})
		if err != nil && !f.accepted(err, todo[i]) {
			return f.explain("challenge", err)
		}
		return nil
	})
}

// accepted looks whether the CA has taken up a challenge although its answer is none or a refusal: the answer may have
// been lost on the way, or one to an earlier request. While it validates, the record must not be removed.
func (f *flow) accepted(failure error, p pending) bool {
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](failure); ok && (problem.Type == badNonce || !passing(failure) && problem.HTTPStatus != http.StatusBadRequest) {
		return false
	}
	authorization, err := call(f.operation, func() (legoacme.Authorization, error) { return f.core.Authorizations.Get(p.url) })
	return err == nil && slices.ContainsFunc(authorization.Challenges, func(c legoacme.Challenge) bool {
		return c.URL == p.challenge.URL && (c.Status == legoacme.StatusProcessing || c.Status == legoacme.StatusValid)
	})
}

// cleanUp removes the records even when the context has ended, because a stop must leave none behind; what cannot be
// removed stays in the journal.
func (f *flow) cleanUp(ctx context.Context, records []dnsprovider.Record, forget func() error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	err := guarded(func(int) error { return f.Solver.CleanUp(ctx, records) }, 0)
	if err == nil {
		err = forget()
	}
	if err != nil {
		f.Progress("dns", fmt.Sprintf("warning: TXT records may remain; the next run removes them: %v", err))
	}
}

// CleanUp removes the records that an earlier run left behind, as the journal says. Records of another provider than
// the one given stay, and are named.
func CleanUp(ctx context.Context, lineage *state.Lineage, provider string, solver dnsprovider.Solver, say Progress) error {
	entries, err := lineage.Journal()
	problems := []error{err}
	for _, entry := range entries {
		if entry.Provider != provider {
			problems = append(problems, fmt.Errorf("TXT record %s was made by provider %s and is still there: remove it by hand", entry.Records[0].Name, entry.Provider))
			continue
		}
		records := make([]dnsprovider.Record, len(entry.Records))
		for i, r := range entry.Records {
			records[i] = dnsprovider.Record{Place: resolve.Place{Name: r.Name, Zone: r.Zone}, Domain: r.Domain, Value: r.Value, Token: r.Token, KeyAuth: r.KeyAuth}
		}
		err := solver.CleanUp(ctx, records)
		if err == nil {
			say("dns", fmt.Sprintf("removed what an earlier run may have left: %d TXT %s", len(records), plural(len(records), "record")))
			err = lineage.Forget(entry)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func journaled(records []dnsprovider.Record) []state.TXT {
	out := make([]state.TXT, len(records))
	for i, r := range records {
		out[i] = state.TXT{Domain: r.Domain, Name: r.Name, Zone: r.Zone, Value: r.Value, Token: r.Token, KeyAuth: r.KeyAuth}
	}
	return out
}

// expected groups the values by name: a wildcard and its apex share one.
func expected(records []dnsprovider.Record) []resolve.TXT {
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

func zones(records []dnsprovider.Record) []string {
	var out []string
	for _, r := range records {
		if zone := strings.TrimSuffix(r.Zone, "."); !slices.Contains(out, zone) {
			out = append(out, zone)
		}
	}
	return out
}

// inParallel runs f for 0…n-1, at most maxParallel at once, and gives the first error.
func inParallel(ctx context.Context, n int, f func(i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return guarded(f, i)
		})
	}
	return group.Wait()
}

func guarded(f func(i int) error, i int) (err error) {
	defer rescued(&err)
	return f(i)
}

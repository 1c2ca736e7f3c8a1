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
	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/transport"
)

// pending is one authorization that has to be proven.
type pending struct {
	url       string // of the authorization
	name      string // in the order
	domain    string // without "*."
	challenge legoacme.Challenge
	record    dnsprovider.TXT
}

// authorize proves control over all names of the order that are not proven yet. cleaned waits until the records are gone; the
// caller must always call it.
func (f *flow) authorize(ctx context.Context) (cleaned func(), err error) {
	nothing := func() {}
	if f.order.Status != legoacme.StatusPending {
		return nothing, nil
	}
	f.locate(ctx) // in parallel with the authorizations
	todo, err := f.unproven(ctx)
	if err != nil {
		return nothing, err
	}
	if len(todo) == 0 {
		return nothing, f.awaitOrder(ctx, legoacme.StatusPending)
	}
	if err := f.placed(todo); err != nil {
		return nothing, err
	}
	together, inTurn, err := f.divide(todo)
	switch {
	case err != nil:
		return nothing, err
	case len(inTurn) == 0:
		return f.proveTogether(ctx, together, func() error { return f.awaitOrder(ctx, legoacme.StatusPending, urls(together)...) })
	}
	return f.proveMixed(ctx, together, inTurn)
}

// unproven fetches the authorizations in parallel and picks the pending ones with their dns-01 challenge.
func (f *flow) unproven(ctx context.Context) ([]pending, error) {
	if len(f.order.Authorizations) > len(f.Names) {
		return nil, &Error{At: "authorization", ErrKind: "ca-error", Charged: true,
			Message: fmt.Sprintf("%s wants %d authorizations for %d names", f.ca(), len(f.order.Authorizations), len(f.Names))}
	}
	urls := slices.Compact(slices.Sorted(slices.Values(f.order.Authorizations))) // a CA may name one twice
	found := make([]*pending, len(urls))
	err := atMost(ctx, f.AtOnce(), len(found), func(i int) error {
		authorization, err := f.authorization(ctx, urls[i])
		if err != nil {
			return f.Explain("authorization", err)
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

// authorization fetches one authorization of the order. If the CA does not know it yet, it asks again.
func (f *flow) authorization(ctx context.Context, url string) (authorization legoacme.Authorization, err error) {
	for try, pause := 1, firstPoll; ; try, pause = try+1, pause*2 {
		authorization, err = session.Call(f.Session, func() (legoacme.Authorization, error) { return f.Core.Authorizations.Get(url) })
		if try == pollTries || !notFound(err) {
			return authorization, err
		}
		select {
		case <-ctx.Done():
			return authorization, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// pick returns the challenge of a pending authorization, nil for one that is already valid.
func (f *flow) pick(a legoacme.Authorization) (*pending, error) {
	domain := strings.ToLower(a.Identifier.Value)
	if domain == "" {
		return nil, &Error{At: "authorization", ErrKind: "ca-error", Passing: true, Message: f.ca() + " sent an authorization without a name"}
	}
	name := domain
	if a.Wildcard {
		name = "*." + domain
	}
	if !slices.Contains(f.Names, name) {
		return nil, &Error{At: "authorization", ErrKind: "ca-error", Charged: true,
			Message: fmt.Sprintf("%s wants proof for %s, which is not in the order", f.ca(), finding.Quote(name, mostWord))}
	}
	switch {
	case a.Status == legoacme.StatusValid:
		return nil, nil
	case a.Status != legoacme.StatusPending:
		return nil, f.ended(domain, a)
	}
	for _, challenge := range a.Challenges {
		if challenge.Type != "dns-01" {
			continue
		}
		if !transport.IsBase64URL(challenge.Token) { // it goes to providers that are programs
			return nil, f.Explain("authorization", transport.NotACME("the token %.100q is not base64url", challenge.Token))
		}
		keyAuth, err := f.Core.GetKeyAuthorization(challenge.Token)
		if err != nil {
			return nil, fmt.Errorf("key authorization for %s: %w", domain, err)
		}
		sum := sha256.Sum256([]byte(keyAuth))
		return &pending{name: name, domain: domain, challenge: challenge, record: dnsprovider.TXT{
			Domain: domain, Token: challenge.Token, KeyAuth: keyAuth, Value: base64.RawURLEncoding.EncodeToString(sum[:]),
		}}, nil
	}
	return nil, &Error{At: "authorization", ErrKind: "ca-refused", Message: fmt.Sprintf("%s offers no dns-01 challenge for %s", f.ca(), domain),
		NextStep: "the CA, or its policy for this name, does not allow DNS validation"}
}

func (f *flow) accept(ctx context.Context, todo []pending) error {
	return atMost(ctx, f.AtOnce(), len(todo), func(i int) error {
		if todo[i].challenge.Status != legoacme.StatusPending {
			return nil // an earlier run has accepted it
		}
		_, err := session.Call(f.Session, func() (legoacme.ExtendedChallenge, error) {
			return f.Core.Challenges.New(todo[i].challenge.URL)
		})
		if err != nil && !f.accepted(err, todo[i]) {
			return f.Explain("challenge", err)
		}
		return nil
	})
}

// accepted reports whether the CA is at work on a challenge although it did not answer, or refused: the answer may be lost, or
// may belong to an earlier request. While the CA validates, the record must not be removed.
func (f *flow) accepted(failure error, p pending) bool {
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](failure); ok && (problem.Type == transport.BadNonce || !passing(failure) && problem.HTTPStatus != http.StatusBadRequest) {
		return false
	}
	authorization, err := session.Call(f.Session, func() (legoacme.Authorization, error) { return f.Core.Authorizations.Get(p.url) })
	return err == nil && slices.ContainsFunc(authorization.Challenges, func(c legoacme.Challenge) bool {
		return c.URL == p.challenge.URL && (c.Status == legoacme.StatusProcessing || c.Status == legoacme.StatusValid)
	})
}

// inParallel is atMost with maxParallel.
func inParallel(ctx context.Context, n int, f func(i int) error) error {
	return atMost(ctx, maxParallel, n, f)
}

// atMost runs f for 0…n-1, up to limit at once, and returns the first error.
func atMost(ctx context.Context, limit, n int, f func(i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return recovering(f, i)
		})
	}
	return group.Wait()
}

// recovering calls f and turns a panic into an error.
func recovering(f func(i int) error, i int) (err error) {
	defer rescued(&err)
	return f(i)
}

// rescued is deferred: it turns a panic, whatever the cause, into an error. A fault in one order must not end a daemon that
// serves others.
func rescued(err *error) {
	if r := recover(); r != nil {
		*err = &Error{At: "order", ErrKind: "internal", Passing: true, Message: "a fault inside mxcert ended the order: " + finding.Quote(fmt.Sprint(r), finding.MostQuoted),
			NextStep: "please report this; the certificate in service is not touched, and the next run tries again"}
	}
}

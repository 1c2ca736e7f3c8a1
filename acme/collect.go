package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/transport"
)

// Polling starts fast, because most answers are ready at once, and slows down.
const (
	// soonest bounds the wait before a first look: the request itself takes longer.
	soonest   = 20 * time.Millisecond
	firstPoll = 250 * time.Millisecond
	lastPoll  = 5 * time.Second
	// pollTries is how many polls in a row may fail.
	pollTries = 3
	// downloadTries covers CAs whose front ends lag behind: 404 on a fresh certificate.
	downloadTries = 5
	// longestWait is the longest Retry-After that a run waits out. If the CA asks for more, the run ends, keeps the order and
	// frees the lineage for others.
	longestWait = 2 * time.Minute
)

// awaitOrder polls the order until it leaves a status. If the order becomes invalid, the authorizations explain why. also are
// further URLs whose answers may have a Retry-After.
func (f *flow) awaitOrder(ctx context.Context, leave string, also ...string) error {
	pace := &f.client.paces.validation
	if leave != legoacme.StatusPending {
		pace = &f.client.paces.issuance
	}
	return f.await(ctx, leave, pace, append([]string{f.url, f.order.Finalize}, also...), func() (done bool, err error) {
		if err := f.refresh(); err != nil {
			return false, err
		}
		switch f.order.Status {
		case leave:
			return false, nil
		}
		return true, f.standing()
	})
}

// standing returns an error if the order cannot go on, or has a status that RFC 8555 does not know.
func (f *flow) standing() error {
	switch f.order.Status {
	case legoacme.StatusInvalid:
		return f.whyInvalid()
	case legoacme.StatusPending, legoacme.StatusReady, legoacme.StatusProcessing, legoacme.StatusValid:
		return nil
	}
	return &Error{At: "order", ErrKind: "ca-error", Passing: true,
		Message: fmt.Sprintf("%s says that the order is %q, which is not a status of RFC 8555", f.ca(), finding.Quote(f.order.Status, mostWord))}
}

// awaitAuthorization polls the authorization of one name until the CA has decided.
func (f *flow) awaitAuthorization(ctx context.Context, p pending) error {
	return f.await(ctx, legoacme.StatusPending, &f.client.paces.validation, []string{p.url, p.challenge.URL}, func() (done bool, err error) {
		authorization, err := session.Call(f.Session, func() (legoacme.Authorization, error) { return f.Core.Authorizations.Get(p.url) })
		switch {
		case err != nil:
			return false, f.Explain("authorization", err)
		case authorization.Status == legoacme.StatusPending:
			return false, nil
		case authorization.Status == legoacme.StatusValid:
			return true, nil
		}
		return true, f.ended(p.domain, authorization)
	})
}

// await polls until a step is done. It waits at least for the Retry-After of the CA's last answers from the URLs.
//
// The first look comes after the time that earlier orders took, or else almost at once, because many CAs are done when it
// arrives. A look that is too early costs a request and a pause. await repeats a look that fails: the CA may be looking at the
// records, which are removed when the run ends.
func (f *flow) await(ctx context.Context, status string, pace *paceNote, urls []string, look func() (done bool, err error)) error {
	var failed error
	if f.resumed { // the step started in an earlier run
		pace = new(paceNote)
	}
	start, early, failures := time.Now(), time.Duration(0), 0
	next, pause := min(f.Took(), soonest), firstPoll
	if usual := pace.first(); affordable(ctx, 2*usual) {
		next = max(next, usual)
	}
	for {
		asked := f.Remaining(urls...)
		wait := max(next, asked)
		busy := &Error{At: "order", ErrKind: "ca-error", Passing: true, RetryAfter: max(asked, f.RetryAfter(urls[0])),
			Message:  fmt.Sprintf("%s is still at work on the order (%s)", f.ca(), status),
			NextStep: "mxcert keeps the order: the next run resumes it"}
		switch {
		case affordable(ctx, wait):
		case failed != nil:
			return failed
		default:
			return busy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		sent := time.Since(start)
		done, err := look()
		switch {
		case done && err == nil && asked == 0 && failures == 0: // only then the time says something about the CA's work
			pace.learn(early, sent)
			return nil
		case done:
			return err
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && failed == nil:
			return busy
		case err != nil:
			if failed, failures = err, failures+1; failures == pollTries || !fleeting(err) {
				return err
			}
		default:
			failed, failures, early = nil, 0, sent
		}
		next, pause = pause, min(pause*3/2, lastPoll)
	}
}

// fleeting reports whether a poll that failed may succeed in a moment.
func fleeting(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if problem, isProblem := errors.AsType[*legoacme.ProblemDetails](err); isProblem && problem.Type == transport.BadNonce {
		return false // session.Call has repeated it
	}
	return notFound(err) || ok && e.Passing && (e.ErrKind == "ca-error" || e.ErrKind == "ca-unreachable")
}

// notFound reports whether the CA does not know what it has just named itself: its front ends may lag behind each other.
func notFound(err error) bool {
	problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
	return ok && problem.HTTPStatus == http.StatusNotFound
}

// affordable reports whether the run may wait that long.
func affordable(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return wait <= longestWait && (!ok || time.Until(deadline) >= wait)
}

func (f *flow) refresh() error {
	order, err := session.Call(f.Session, func() (legoacme.ExtendedOrder, error) { return f.Core.Orders.Get(f.url) })
	if err != nil {
		return f.Explain("order", err)
	}
	f.order = order.Order
	return nil
}

func (f *flow) download(ctx context.Context) ([]byte, error) {
	for try, pause := 1, firstPoll; ; try, pause = try+1, pause*2 {
		chain, err := session.Call(f.Session, func() ([]byte, error) {
			chain, _, err := f.Core.Certificates.Get(f.order.Certificate, true)
			return chain, err
		})
		if err == nil {
			f.Progress("certificate", "downloaded")
			return f.preferredChain(chain, f.OtherChains()), nil
		}
		wait := max(pause, f.RetryAfter(f.order.Certificate))
		hung := try > 1 && errors.Is(err, context.DeadlineExceeded) // each try costs its whole time
		if try == downloadTries || hung || !passing(err) || !affordable(ctx, wait) || ctx.Err() != nil {
			explained := f.Explain("download", err)
			if e, ok := errors.AsType[*Error](explained); ok {
				e.Passing = true // the order is valid: the next run downloads again, for a day (orderLife)
			}
			return nil, explained
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// passing reports whether a failed download may succeed in a moment.
func passing(err error) bool {
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok {
		return problem.HTTPStatus == http.StatusNotFound || problem.HTTPStatus == http.StatusTooManyRequests || problem.HTTPStatus >= http.StatusInternalServerError
	}
	return session.Unanswered(err)
}

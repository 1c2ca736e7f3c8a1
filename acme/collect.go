package acme

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
)

// Polling starts fast, because most answers are there at once, and grows.
const (
	// atOnce bounds what is waited before a first look: a request is under way for longer.
	atOnce    = 20 * time.Millisecond
	firstPoll = 250 * time.Millisecond
	lastPoll  = 5 * time.Second
	// pollTries is how many polls in a row may fail.
	pollTries = 3
	// downloadTries covers CAs whose front ends lag behind: 404 on a fresh certificate.
	downloadTries = 5
	// longestWait is how long a Retry-After is waited out within a run. Until a later one the order is kept and the
	// lineage is free for others.
	longestWait = 2 * time.Minute
)

// awaitOrder looks at the order until it leaves a status. An order that turns invalid is explained by its authorizations.
// also are further URLs whose answers may have asked for patience.
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
		case legoacme.StatusInvalid:
			return true, f.whyInvalid()
		case legoacme.StatusPending, legoacme.StatusReady, legoacme.StatusProcessing, legoacme.StatusValid:
			return true, nil
		}
		return true, &Error{Stage: "order", ErrKind: "ca-error", temporary: true,
			Message: fmt.Sprintf("%s says that the order is %q, which is no status of RFC 8555", authority.Name(f.stored.Directory), quoteWord(f.order.Status))}
	})
}

// awaitAuthorization looks at the authorization of one name until the CA has its verdict.
func (f *flow) awaitAuthorization(ctx context.Context, p pending) error {
	return f.await(ctx, legoacme.StatusPending, &f.client.paces.validation, []string{p.url, p.challenge.URL}, func() (done bool, err error) {
		authorization, err := call(f.operation, func() (legoacme.Authorization, error) { return f.core.Authorizations.Get(p.url) })
		switch {
		case err != nil:
			return false, f.explain("authorization", err)
		case authorization.Status == legoacme.StatusPending:
			return false, nil
		case authorization.Status == legoacme.StatusValid:
			return true, nil
		}
		return true, challengeError(f.stored.Directory, p.domain, authorization)
	})
}

// await looks until a step is done. The CA's Retry-After, in its last answers from the URLs, is obeyed as a minimum.
//
// The first look comes when the CA was done with earlier orders, or else almost at once, because many CAs are done by the
// time that it arrives. One that is too early costs a request and a pause. A look that fails is repeated: the CA may be looking at the
// records, and they go when the run ends.
func (f *flow) await(ctx context.Context, status string, pace *paceNote, urls []string, look func() (done bool, err error)) error {
	var failed error
	if f.resumed { // it began in an earlier run
		pace = new(paceNote)
	}
	start, early, failures := time.Now(), time.Duration(0), 0
	next, pause := min(f.transport.roundTrip(), atOnce), firstPoll
	if usual := pace.first(); affordable(ctx, 2*usual) {
		next = max(next, usual)
	}
	for {
		asked := f.transport.remaining(urls...)
		wait := max(next, asked)
		busy := &Error{Stage: "order", ErrKind: "ca-error", temporary: true, RetryAfter: max(asked, f.transport.retryAfterOf(urls[0])),
			Message:  fmt.Sprintf("%s is still at work on the order (%s)", authority.Name(f.stored.Directory), status),
			NextStep: "the order is kept: the next run goes on with it"}
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
		case done && err == nil && asked == 0 && failures == 0: // otherwise the time says nothing about the CA's work
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
	if problem, isProblem := errors.AsType[*legoacme.ProblemDetails](err); isProblem && problem.Type == badNonce {
		return false // it was repeated often enough
	}
	return ok && e.temporary && (e.ErrKind == "ca-error" || e.ErrKind == "ca-unreachable")
}

// affordable reports whether the run may wait that long.
func affordable(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return wait <= longestWait && (!ok || time.Until(deadline) >= wait)
}

func (f *flow) refresh() error {
	order, err := call(f.operation, func() (legoacme.ExtendedOrder, error) { return f.core.Orders.Get(f.url) })
	if err != nil {
		return f.explain("order", err)
	}
	f.order = order.Order
	return nil
}

// whyInvalid looks for the authorization that failed.
func (f *flow) whyInvalid() error {
	for _, url := range f.order.Authorizations {
		authorization, err := call(f.operation, func() (legoacme.Authorization, error) { return f.core.Authorizations.Get(url) })
		if err != nil {
			return f.explain("authorization", err)
		}
		if authorization.Status == legoacme.StatusInvalid {
			return challengeError(f.stored.Directory, quoteWord(authorization.Identifier.Value), authorization)
		}
	}
	if f.order.Error != nil {
		e := explainProblem("order", authority.Name(f.stored.Directory), f.order.Error, 0)
		e.Charged, e.temporary = true, false
		return e
	}
	return &Error{Stage: "order", ErrKind: "ca-refused", Charged: true, Message: authority.Name(f.stored.Directory) + " gave up the order without a reason"}
}

// challengeError says why a name could not be proven.
func challengeError(directory, domain string, a legoacme.Authorization) *Error {
	e := &Error{Stage: "challenge", ErrKind: "challenge", Charged: true, Identifier: domain,
		Message:  fmt.Sprintf("%s does not accept the proof for %s (authorization %.20s)", authority.Name(directory), domain, quote(a.Status)),
		NextStep: fmt.Sprintf("is _acme-challenge.%s served by all name servers of the zone, and does DNSSEC validate? (delv _acme-challenge.%s TXT)", domain, domain)}
	for _, c := range a.Challenges {
		if c.Error != nil {
			e.Message = fmt.Sprintf("%s could not verify %s: %s", authority.Name(directory), domain, quote(detail(c.Error)))
			break
		}
	}
	return e
}

// collect finalizes a ready order and downloads the certificate.
func (f *flow) collect(ctx context.Context) ([]byte, error) {
	if f.order.Status == legoacme.StatusReady {
		if err := f.finalize(); err != nil {
			return nil, err
		}
	}
	for f.order.Status == legoacme.StatusProcessing || f.order.Status == legoacme.StatusReady {
		if err := f.awaitOrder(ctx, f.order.Status); err != nil {
			return nil, err
		}
	}
	if f.order.Status != legoacme.StatusValid || f.order.Certificate == "" {
		return nil, &Error{Stage: "finalize", ErrKind: "ca-error", temporary: true,
			Message: fmt.Sprintf("%s gave no certificate (order is %.20q)", authority.Name(f.stored.Directory), f.order.Status)}
	}
	return f.download(ctx)
}

func (f *flow) finalize() error {
	key, err := bundle.ParseKey([]byte(f.stored.Key))
	if err != nil {
		return err
	}
	// No common name: identifiers are the SANs (RFC 9525 section 2), and some profiles refuse one.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: f.Names}, key)
	if err != nil {
		return fmt.Errorf("certificate request: %w", err)
	}
	order, err := call(f.operation, func() (legoacme.ExtendedOrder, error) {
		return f.core.Orders.UpdateForCSR(f.order.Finalize, csr)
	})
	if err != nil && strings.HasPrefix(err.Error(), "invalid order") && f.refresh() == nil { // lego's words, with or without the CA's reason
		return f.whyInvalid()
	}
	if err != nil {
		return f.explain("finalize", err)
	}
	f.order = order.Order
	return nil
}

func (f *flow) download(ctx context.Context) ([]byte, error) {
	for try, pause := 1, firstPoll; ; try, pause = try+1, pause*2 {
		chain, err := call(f.operation, func() ([]byte, error) {
			chain, _, err := f.core.Certificates.Get(f.order.Certificate, true)
			return chain, err
		})
		if err == nil {
			f.Progress("certificate", "downloaded")
			return f.preferredChain(chain, f.transport.otherChains()), nil
		}
		wait := max(pause, f.transport.retryAfterOf(f.order.Certificate))
		hung := try > 1 && errors.Is(err, context.DeadlineExceeded) // each try costs its whole time
		if try == downloadTries || hung || !passing(err) || !affordable(ctx, wait) || ctx.Err() != nil {
			explained := f.explain("download", err)
			if e, ok := errors.AsType[*Error](explained); ok {
				e.temporary = true // the order is valid: the next run downloads again, for a day (orderLife)
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
	return isNetwork(err)
}

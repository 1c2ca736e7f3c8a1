package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Authorities are the CAs of one configuration, in order of preference. They are safe for concurrent use.
type Authorities struct {
	store   *state.Book
	clients []*Client
}

// NewAuthorities makes the clients of all CAs; there must be one at least. Nothing is asked or stored.
func NewAuthorities(store *state.Book, settings ...Settings) *Authorities {
	a := &Authorities{store: store}
	for _, s := range settings {
		a.clients = append(a.clients, New(s, store))
	}
	return a
}

// Close releases idle connections.
func (a *Authorities) Close() {
	for _, c := range a.clients {
		c.Close()
	}
}

// Clients are the clients in order of preference.
func (a *Authorities) Clients() []*Client { return a.clients }

// At gives the client of the CA with that directory URL; nil where it is none of these.
func (a *Authorities) At(directory string) *Client {
	for _, c := range a.clients {
		if c.settings.Directory == directory {
			return c
		}
	}
	return nil
}

// Held reports whether no CA may be asked now: nil where one may, else the [*schedule.Held] that ends first.
func (a *Authorities) Held(claim Claim) error {
	var first error
	for _, c := range a.clients {
		err := c.Held(claim)
		held, ok := errors.AsType[*schedule.Held](err)
		if !ok {
			return err
		}
		if earliest, ok := errors.AsType[*schedule.Held](first); !ok || held.Until.Before(earliest.Until) {
			first = err
		}
	}
	return first
}

// Issue orders a certificate from the first CA that gives one. A CA is passed over while its breaker is open or its
// limits are reached. After a fault of a CA the next one is asked, but not after a failure that would be the same there:
// a challenge that failed, a DNS provider that refuses. An order that was finalized, or that the operator's own
// [state.Lineage] keeps in flight at a CA, is gone on with there first.
//
// The error tells of every CA that was asked; its parts are those of [Client.Issue].
func (a *Authorities) Issue(ctx context.Context, request Request) (*Issued, error) {
	if request.Progress == nil {
		request.Progress = func(string, string) {}
	}
	var failed []error
	for i, c := range a.order(request) {
		if err := a.admit(ctx, c, request); err != nil {
			failed = append(failed, err)
			continue
		}
		issued, err := c.Issue(ctx, a.fit(ctx, c, request))
		if noteErr := c.conclude(err); noteErr != nil {
			request.Progress("order", "warning: "+noteErr.Error())
		}
		if err == nil {
			issued.Warnings = append(issued.Warnings, passedOver(failed, c)...)
			return issued, nil
		}
		failed = append(failed, err)
		if !elsewhere(err, request.Danger) || ctx.Err() != nil {
			break
		}
		if i+1 < len(a.clients) {
			request.Progress("order", "warning: "+oneLine(err.Error())+"; the next CA is asked")
		}
	}
	return nil, none(failed)
}

// order lists the clients as they are asked: the one with an order in flight for these names first.
func (a *Authorities) order(request Request) []*Client {
	clients := append([]*Client(nil), a.clients...)
	stored, ok, err := request.Lineage.Order(request.KeyType)
	if err != nil || !ok || stored.URL == "" || !sameNames(stored.Names, request.Names) || time.Since(stored.Created) > orderLife {
		return clients
	}
	for i, c := range clients {
		if c.settings.Directory == stored.Directory {
			copy(clients[1:i+1], clients[:i])
			clients[0] = c
		}
	}
	return clients
}

// admit asks the breaker of a CA: after a failure one order at a time tries it. A person's order is
// tried at all of them where none can be asked without waiting.
func (a *Authorities) admit(ctx context.Context, c *Client, request Request) error {
	if stored, ok, _ := request.Lineage.Order(request.KeyType); ok && stored.Finalized && stored.Directory == c.settings.Directory {
		return nil // what is paid for is collected
	}
	usage, err := a.store.Usage(c.settings.Directory)
	if err != nil || usage.Breaker.Failures == 0 || request.Claim.Person && !a.anyClosed() {
		return err
	}
	return a.store.ChangeUsage(ctx, c.settings.Directory, func(u *state.Usage) error {
		if !u.Breaker.Probe(time.Now()) {
			return c.resting(u.Breaker, request.Claim)
		}
		return nil
	})
}

// anyClosed reports whether a CA can be asked without waiting.
func (a *Authorities) anyClosed() bool {
	for _, c := range a.clients {
		if usage, err := a.store.Usage(c.settings.Directory); err == nil && !usage.Breaker.Open(time.Now()) {
			return true
		}
	}
	return false
}

// fit leaves out of a request what is of another CA: the certificate that is replaced, and the profile where a CA that
// is not the first choice does not know it.
func (a *Authorities) fit(ctx context.Context, c *Client, request Request) Request {
	if request.ReplacesAt != c.settings.Directory {
		request.Replaces, request.Claim.Replacement = nil, false
	}
	if request.Profile != "" && c != a.clients[0] {
		if directory, err := c.Directory(ctx); err == nil && !directory.Knows(request.Profile) {
			request.Progress("order", fmt.Sprintf("warning: %s has no profile %q; its default is ordered", authority.Name(c.settings.Directory), request.Profile))
			request.Profile = ""
		}
	}
	return request
}

// passedOver says why a CA that is preferred did not give the certificate.
func passedOver(failed []error, c *Client) []string {
	if len(failed) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the certificate comes from %s, because another CA gave none: %s", authority.Name(c.settings.Directory), oneLine(errors.Join(failed...).Error()))}
}

// elsewhere reports whether another CA may succeed where this one failed.
func elsewhere(err error, danger bool) bool {
	if _, held := errors.AsType[*schedule.Held](err); held {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kept && !danger {
		return false // DNS, this host, or a certificate that is paid for
	}
	return e.ErrKind != "challenge" && e.ErrKind != "clock"
}

// noneError is that no CA gave a certificate.
type noneError struct{ failed []error }

func none(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	// What was asked comes first: it names the stage and the hint.
	slices.SortStableFunc(failed, func(a, b error) int { return rank(a) - rank(b) })
	return &noneError{failed: failed}
}

func rank(err error) int {
	if _, held := errors.AsType[*schedule.Held](err); held {
		return 1
	}
	return 0
}

// Error tells of every CA.
func (e *noneError) Error() string {
	var parts []string
	for _, err := range e.failed {
		parts = append(parts, oneLine(err.Error()))
	}
	return "no CA gives a certificate: " + strings.Join(parts, "; ")
}

// Unwrap gives the failures of all CAs.
func (e *noneError) Unwrap() []error { return e.failed }

// Temporary is true where one of the failures may pass.
func (e *noneError) Temporary() bool {
	return slices.ContainsFunc(e.failed, func(err error) bool {
		t, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err)
		return ok && t.Temporary()
	})
}

// Wait is until the first CA may be asked again.
func (e *noneError) Wait() time.Duration {
	shortest := time.Duration(-1)
	for _, err := range e.failed {
		w, ok := errors.AsType[interface {
			error
			Wait() time.Duration
		}](err)
		if !ok {
			return 0
		}
		if shortest < 0 || w.Wait() < shortest {
			shortest = w.Wait()
		}
	}
	return max(0, shortest)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Authorities are the CAs of one configuration, in order of preference. They are safe for concurrent use.
type Authorities struct {
	store   *state.Book
	clients []*Client
}

// Demand is a [Request] to whichever of the CAs grants it.
type Demand struct {
	Request
	ReplacesAt string // directory URL of the CA that issued the certificate in Replaces
	// Danger says that no certificate is in service, or that it will expire soon: an order that hangs at one CA is then given
	// up for another CA.
	Danger bool
}

// NewAuthorities makes the clients of all CAs, of which there must be at least one. It asks and stores nothing.
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

// Clients returns the clients in order of preference.
func (a *Authorities) Clients() []*Client { return a.clients }

// At returns the client of the CA with that directory URL; nil if it is none of these.
func (a *Authorities) At(directory string) *Client {
	for _, c := range a.clients {
		if c.settings.Directory == directory {
			return c
		}
	}
	return nil
}

// Held returns nil if one of the CAs may be asked now, else the [*schedule.Held] that ends first.
func (a *Authorities) Held(claim Claim) error {
	var holds []error
	for _, c := range a.clients {
		err := c.Held(claim)
		if !isHeld(err) {
			return err
		}
		holds = append(holds, err)
	}
	return firstToEnd(holds)
}

// Issue orders a certificate from the first CA that grants it. It passes over a CA whose breaker is open or whose limits are
// reached. After a fault of a CA it asks the next one, but not after a failure that would be the same there: a challenge
// that failed, a DNS provider that refuses. An order already in flight at one CA, as [state.Lineage] keeps it, is resumed
// there before another CA is tried.
//
// The error is that of the only CA that was tried, or one that names the failures of all; see [Client.Issue].
func (a *Authorities) Issue(ctx context.Context, d Demand) (*Issued, error) {
	if d.Progress == nil {
		d.Progress = func(string, string) {}
	}
	var failed []error
	for i, c := range a.order(d.Request) {
		if err := a.admit(ctx, c, d.Request); err != nil {
			failed = append(failed, err)
			continue
		}
		issued, err := c.Issue(ctx, a.fit(ctx, c, d))
		if noteErr := c.conclude(err); noteErr != nil {
			d.Progress("order", "warning: "+noteErr.Error())
		}
		if err == nil {
			issued.Warnings = append(issued.Warnings, passedOver(failed, c)...)
			return issued, nil
		}
		failed = append(failed, err)
		if !elsewhere(err, d.Danger) || ctx.Err() != nil {
			break
		}
		if i+1 < len(a.clients) {
			d.Progress("order", "warning: "+finding.Line(err)+"; mxcert asks the next CA")
		}
	}
	return nil, merge(failed)
}

// order lists the clients in the order in which Issue asks them: first the one with an order in flight for these names.
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

// admit asks the breaker of a CA: after a failure one order at a time tries it. If every breaker is open, a person's order
// tries all of the CAs.
func (a *Authorities) admit(ctx context.Context, c *Client, request Request) error {
	if stored, ok, _ := request.Lineage.Order(request.KeyType); ok && stored.Finalized && stored.Directory == c.settings.Directory {
		return nil // the order is finalized: its certificate is collected
	}
	usage, err := a.store.Usage(c.settings.Directory)
	if err != nil || usage.Breaker.Failures == 0 || request.Person && !a.anyClosed() {
		return err
	}
	return a.store.ChangeUsage(ctx, c.settings.Directory, func(u *state.Usage) error {
		if !u.Breaker.Probe(time.Now(), request.Expires) {
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

// fit returns the request as one CA can accept it: without a certificate of another CA to replace, and without a profile that
// the CA does not know, unless the CA is the first choice.
func (a *Authorities) fit(ctx context.Context, c *Client, d Demand) Request {
	request := d.Request
	if d.ReplacesAt != c.settings.Directory {
		request.Replaces, request.Replacement = nil, false
	}
	if request.Profile != "" && c != a.clients[0] {
		directory, err := c.Directory(ctx)
		if _, known := directory.Profiles[request.Profile]; err == nil && !known {
			request.Progress("order", fmt.Sprintf("warning: %s has no profile %q; mxcert orders its default profile", c.ca(), request.Profile))
			request.Profile = ""
		}
	}
	return request
}

// passedOver says why a preferred CA did not issue the certificate.
func passedOver(failed []error, c *Client) []string {
	if len(failed) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the certificate comes from %s, because another CA did not issue it: %s", c.ca(), lines(failed))}
}

// elsewhere reports whether another CA may succeed after this failure.
func elsewhere(err error, danger bool) bool {
	if isHeld(err) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kept && !danger {
		return false // DNS, this host, or an order that is finalized
	}
	return e.ErrKind != "challenge" && e.ErrKind != "clock"
}

// merge makes one error of the failures at all CAs. It answers as the first CA that was asked does, because that failure
// names the stage and the hint; it is temporary if one of the failures is, and waits for the CA that is ready first. If no
// CA was asked, it is the hold that ends first. A failure that has nothing to do with the CAs, such as one of the DNS
// provider, keeps its own answers.
func merge(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	asked := slices.DeleteFunc(slices.Clone(failed), isHeld)
	if len(asked) == 0 {
		return firstToEnd(failed)
	}
	all := append(asked, slices.DeleteFunc(slices.Clone(failed), func(err error) bool { return !isHeld(err) })...)
	first, ok := errors.AsType[*Error](all[0])
	if !ok {
		return fmt.Errorf("no CA issues a certificate: %w; %s", all[0], lines(all[1:]))
	}
	e := *first
	e.Unproven, e.Unheard = nil, nil // NameErrors reads those of each cause
	e.Message, e.Cause = "no CA issues a certificate: "+lines(all), errors.Join(all...)
	e.Passing, e.RetryAfter = slices.ContainsFunc(all, temporary), shortestWait(all)
	return &e
}

func lines(errs []error) string {
	var parts []string
	for _, err := range errs {
		parts = append(parts, finding.Line(err))
	}
	return strings.Join(parts, "; ")
}

func isHeld(err error) bool {
	_, held := errors.AsType[*schedule.Held](err)
	return held
}

// firstToEnd picks one of several holds.
func firstToEnd(holds []error) error {
	var first *schedule.Held
	for _, err := range holds {
		if held, ok := errors.AsType[*schedule.Held](err); ok && (first == nil || held.Until.Before(first.Until)) {
			first = held
		}
	}
	if first == nil {
		return nil
	}
	return first
}

func temporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// shortestWait is the time until the first CA may be asked again; 0 if one of them did not ask to wait.
func shortestWait(errs []error) time.Duration {
	shortest := time.Duration(-1)
	for _, err := range errs {
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

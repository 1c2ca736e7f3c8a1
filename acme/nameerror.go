package acme

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/schedule"
	"mxcert/acme/session"
)

// NameError says that one name of an order cannot be proven, and why.
type NameError struct {
	Name string // as in the order
	// Denied says that somebody who decides about the name has refused it: the CA, or the name server that takes the update. Otherwise
	// something did not work that may work later.
	Denied bool
	Cause  error
}

// Error is that of the cause.
func (e *NameError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *NameError) Unwrap() error { return e.Cause }

// NameErrors lists the names of an order, each once, for which the error of [Authorities.Issue] or [Client.Issue] says that they could
// not be proven. It is empty if the error is not about single names: a CA that is down, a limit of the account, a DNS provider that does
// not work at all. Then nobody can say which name to leave out.
//
// If several CAs failed, a name counts as denied only if each of them that was asked has denied it.
func NameErrors(err error, names []string) []*NameError {
	var found []*NameError
	for _, e := range blamed(err, names) {
		i := slices.IndexFunc(found, func(f *NameError) bool { return f.Name == e.Name })
		if i < 0 {
			found = append(found, e)
		} else if !e.Denied {
			found[i] = e
		}
	}
	return found
}

// blamed walks through the tree of an error.
func blamed(err error, names []string) []*NameError {
	switch e := err.(type) { //nolint:errorlint // a tree of errors is walked this way
	case *NameError:
		return []*NameError{e}
	case *Error:
		if all, ok := e.Cause.(interface{ Unwrap() []error }); ok { //nolint:errorlint // see merge
			return ofCAs(all.Unwrap(), names)
		}
		return byCA(e, names)
	case interface{ Unwrap() []error }:
		var all []*NameError
		for _, part := range e.Unwrap() {
			all = append(all, blamed(part, names)...)
		}
		return all
	case interface{ Unwrap() error }:
		return blamed(e.Unwrap(), names)
	}
	return nil
}

// ofCAs puts together what several CAs say.
func ofCAs(failed []error, names []string) (all []*NameError) {
	asked := slices.DeleteFunc(slices.Clone(failed), isHeld)
	denials := map[string]int{}
	for _, err := range asked {
		for _, e := range blamed(err, names) {
			if _, ofCA := e.Cause.(*Error); ofCA && e.Denied { //nolint:errorlint // as byCA makes it
				denials[e.Name]++
				e = &NameError{Name: e.Name, Denied: denials[e.Name] == len(asked), Cause: e.Cause}
			}
			all = append(all, e)
		}
	}
	for _, e := range all {
		e.Denied = e.Denied || denials[e.Name] == len(asked)
	}
	return all
}

// byCA reads which names a CA means.
func byCA(e *Error, names []string) (all []*NameError) {
	for _, name := range e.Unproven {
		if !slices.Contains(names, name) {
			return nil
		}
		all = append(all, &NameError{Name: name, Denied: !slices.Contains(e.Unheard, name), Cause: e})
	}
	problem, ok := e.Cause.(*legoacme.ProblemDetails) //nolint:errorlint // the CA's own answer, not one further down
	if !ok || len(all) > 0 || e.ErrKind != "ca-refused" {
		return all
	}
	for _, sub := range problem.SubProblems {
		name := nameOf(sub.Identifier.Value, names)
		if name == "" {
			return nil // the CA says more than mxcert understands
		}
		all = append(all, &NameError{Name: name, Denied: denies(sub.Type), Cause: e})
	}
	if len(problem.SubProblems) > 0 || !session.ProblemIs(problem, "rejectedIdentifier", "unsupportedIdentifier", "caa") {
		return all
	}
	// A CA that refuses one name may name it only in its text, as Boulder and Pebble do.
	words := strings.FieldsFunc(strings.ToLower(problem.Detail), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-.*_", r)
	})
	for _, word := range words {
		if word = strings.TrimRight(word, "."); slices.Contains(names, word) {
			all = append(all, &NameError{Name: word, Denied: true, Cause: e})
		}
	}
	return all
}

// nameOf finds the name of the order that an identifier means; "" if it means none.
func nameOf(identifier string, names []string) string {
	identifier = strings.ToLower(identifier)
	for _, candidate := range []string{identifier, "*." + identifier} {
		if slices.Contains(names, candidate) {
			return candidate
		}
	}
	return ""
}

// denies reports whether a problem type of RFC 8555 section 6.7 is a verdict on a name. The others say that the CA could not find out.
func denies(problemType string) bool {
	kind := problemType[strings.LastIndexByte(problemType, ':')+1:]
	return !slices.Contains([]string{"dns", "connection", "serverInternal", "rateLimited", "tls"}, kind)
}

// present creates the records of one account. If that fails, and the order has optional names, the error says for which names.
func (f *flow) present(ctx context.Context, b *batch, p part) error {
	err := p.Present(ctx)
	if err == nil || len(f.Optional) == 0 || ctx.Err() != nil {
		return err
	}
	return f.oneByOne(ctx, b, p, err)
}

// oneByOne finds out which records an account does not accept, after it did not accept all of them. It leaves those that it accepts in
// place. If it accepts none, its names are not denied, unless a name server has refused each of them.
func (f *flow) oneByOne(ctx context.Context, b *batch, p part, failed error) error {
	names := b.names(p)
	if len(names) == 1 {
		return &NameError{Name: names[0], Denied: dnsprovider.Refused(failed), Cause: failed}
	}
	if err := p.CleanUp(ctx); err != nil {
		if len(b.parts) == 1 {
			return failed
		}
		return notWorking(names, failed) // so that the refusals of another account are not all that is known
	}
	var bad []*NameError
	for i, name := range names {
		one := dnsprovider.Share{Account: p.Account, Records: p.Records[i : i+1]}
		err := one.Present(ctx)
		if ctx.Err() != nil {
			return failed
		}
		if err != nil {
			bad = append(bad, &NameError{Name: name, Cause: err})
		}
	}
	if len(bad) == 0 {
		return failed // the next run tries all again
	}
	problems := make([]error, len(bad))
	for i, e := range bad {
		e.Denied = dnsprovider.Refused(e.Cause) || len(bad) < len(names) && !temporary(e.Cause)
		problems[i] = e
	}
	return errors.Join(problems...)
}

// notWorking says that nothing is known about single names, but that none of them could be proven.
func notWorking(names []string, failed error) error {
	problems := make([]error, len(names))
	for i, name := range names {
		problems[i] = &NameError{Name: name, Cause: failed}
	}
	return errors.Join(problems...)
}

// names returns the name of the order for each record of an account.
func (b *batch) names(p part) []string {
	names := make([]string, len(p.Records))
	for i, r := range p.Records {
		for _, t := range b.todo {
			if t.record == r {
				names[i] = t.name
			}
		}
	}
	return names
}

// shortLook is how long to look for one record that did not appear in time with the others.
const shortLook = 2 * time.Second

// unseen finds out which records the name servers do not show.
func (f *flow) unseen(ctx context.Context, b *batch, failed error) error {
	if len(f.Optional) == 0 || ctx.Err() != nil {
		return failed
	}
	bad := make([]error, len(b.todo))
	_ = inParallel(ctx, len(b.todo), func(i int) error { // there are no errors
		if err := f.Resolver.AwaitTXT(ctx, expected(b.records[i:i+1]), f.Require, shortLook, nil); err != nil {
			bad[i] = &NameError{Name: b.todo[i].name, Cause: err}
		}
		return nil
	})
	return cmp.Or(errors.Join(bad...), failed)
}

// placed finds where the record of each pending authorization goes. Each name whose place cannot be found has its error.
func (f *flow) placed(todo []pending) error {
	var bad []error
	for i, p := range todo {
		place, err := f.places[p.domain]()
		if todo[i].record.Place = place; err == nil {
			continue
		}
		if len(f.Optional) == 0 {
			return err
		}
		// The preflight has found the place a moment ago: this is one answer, and no denial.
		bad = append(bad, &NameError{Name: p.name, Cause: err})
	}
	return errors.Join(bad...)
}

// noteFailures notes the failed proofs of an attempt in the budget.
func noteFailures(ledger *schedule.Ledger, e *Error) {
	noted := map[string]bool{}
	for _, name := range append([]string{e.Identifier}, e.Unproven...) {
		if base := strings.TrimPrefix(name, "*."); base != "" && !noted[base] {
			ledger.Fail(time.Now(), base)
			noted[base] = true
		}
	}
}

package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/challenge"

	"mxcert/acme/resolve"
)

const (
	// legoPatience bounds one call, including the wait for other calls. lego's providers bound few of their requests, and some
	// wait until the provider has published a change: route53 up to two minutes.
	legoPatience = 10 * time.Minute
	// secondTry is the pause before the second try of a removal that no later process can do.
	secondTry = 2 * time.Second
)

// constructor makes a lego provider from the process environment.
type constructor func() (challenge.Provider, error)

// lego adapts one of lego's providers, which know neither batches nor contexts nor each other.
type lego struct {
	name      string
	env       map[string]string // errors must not contain its values
	provider  challenge.Provider
	servers   []string // for finding zones
	forgetful bool     // see Description
	patience  time.Duration
	made      made
	endTurn   func() // set while this Solver has the turn of a sequential provider
	// busy is held while the provider works. A call that was given up continues in its goroutine, and the clean-up must wait
	// for its end.
	busy chan struct{}
}

func newLego(name string, description Description, construct constructor, env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	s := &lego{name: name, env: env, servers: resolver.Servers(), forgetful: description.Forgetful, patience: legoPatience,
		made: made{}, busy: make(chan struct{}, 1)}
	err := withEnvironment(description, name, env, func() (err error) {
		defer recovered(&err)
		s.provider, err = construct()
		return err
	})
	if err != nil {
		hint := fmt.Sprintf("`mxcert providers %s` lists the variables for dns.env", name)
		for variable, similar := range description.misspelt(maps.Keys(env)) {
			hint = fmt.Sprintf("did you mean %s instead of %s? ", similar, variable) + hint
		}
		return nil, &Error{Provider: name, Op: "set up", What: "its settings", Reason: capped(err.Error(), name, env), ErrKind: "dns-config", NextStep: hint}
	}
	return s, nil
}

// Sequential returns what lego's provider says, which reads NAME_SEQUENCE_INTERVAL (lego's default: a minute). Two providers
// are sequential without saying so: gandi accepts one name of a zone at a time, and glesys forgets a value when another of the
// same name is created, as a wildcard and its apex need it.
func (s *lego) Sequential() (interval time.Duration, yes bool) {
	if provider, yes := s.provider.(interface{ Sequential() time.Duration }); yes {
		return provider.Sequential(), true
	}
	return 0, s.name == "gandi" || s.name == "glesys"
}

// Present creates the records one after another. From its start to the end of CleanUp, no other Solver can use a sequential
// provider of that name.
func (s *lego) Present(ctx context.Context, records []TXT) error {
	s.made.plan(records)
	interval, _ := s.Sequential()
	if err := s.startTurn(ctx, interval); err != nil {
		return err
	}
	for _, r := range records {
		if err := s.call(ctx, "create", r, s.provider.Present); err != nil {
			return err
		}
		s.made.set(r, accepted)
	}
	return nil
}

// CleanUp removes the records one after another, and continues after a failure. Records that Present did not reach do not
// exist.
func (s *lego) CleanUp(ctx context.Context, records []TXT) error {
	defer s.finishTurn()
	var problems []error
	for _, r := range records {
		state := s.made.of(r)
		if state == planned {
			s.made.forget(r)
			continue
		}
		if state == foreign && s.forgetful {
			problems = append(problems, forgotten(s.name, "the provider can remove only records that the same process has created, and this record is older", r))
			continue
		}
		if err := s.remove(ctx, r, state); err != nil {
			problems = append(problems, err)
			continue
		}
		s.made.forget(r)
	}
	return errors.Join(problems...)
}

func (s *lego) remove(ctx context.Context, r TXT, state progress) error {
	if err := s.startTurn(ctx, 0); err != nil {
		return err
	}
	err := s.call(ctx, "remove", r, s.provider.CleanUp)
	if err == nil || !s.forgetful || ctx.Err() != nil {
		return err
	}
	if state == tried {
		return forgotten(s.name, "the call that was to create it failed, and without the answer the provider cannot find the record", r)
	}
	select { // a later process cannot do it
	case <-time.After(secondTry):
		return s.call(ctx, "remove", r, s.provider.CleanUp)
	case <-ctx.Done():
		return err
	}
}

func (s *lego) startTurn(ctx context.Context, pause time.Duration) (err error) {
	if _, yes := s.Sequential(); yes && s.endTurn == nil {
		s.endTurn, err = legoTurns.take(ctx, s.name, pause)
	}
	return err
}

// finishTurn lets others use a sequential provider, after a call that was given up has ended.
func (s *lego) finishTurn() {
	end := s.endTurn
	if end == nil {
		return
	}
	s.endTurn = nil
	go func() {
		s.busy <- struct{}{}
		<-s.busy
		end()
	}()
}

// call makes the provider handle one record, and returns when the context ends.
func (s *lego) call(ctx context.Context, op string, r TXT, f func(domain, token, keyAuth string) error) error {
	bounded, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	domain, named := domainFor(r)
	done, err := s.enter(bounded, r.Zone, !named)
	if err != nil {
		return s.explain(ctx, op, r, errors.New("it is still at work on earlier requests, "+s.patience.String()+" later"))
	}
	if op == "create" {
		s.made.set(r, tried)
	}
	result := make(chan error, 1)
	go func() {
		defer done()
		result <- func() (err error) {
			defer recovered(&err)
			return f(domain, r.Token, r.KeyAuth)
		}()
	}()
	select {
	case err := <-result:
		if err == nil {
			return nil
		}
		return s.explain(context.WithoutCancel(ctx), op, r, err)
	case <-bounded.Done():
		return s.explain(ctx, op, r, fmt.Errorf("it has not answered for %s", s.patience))
	}
}

// enter waits until this provider is free, no other Solver changes the zone with it, and lego asks our name servers. follow says
// whether lego has to follow CNAME records.
func (s *lego) enter(ctx context.Context, zone string, follow bool) (done func(), err error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release, err := legoTurns.take(ctx, s.name+" "+zone, 0)
	if err != nil {
		<-s.busy
		return nil, err
	}
	leave, err := legoResolvers.enter(ctx, lookup{servers: s.servers, follow: follow})
	if err != nil {
		release()
		<-s.busy
		return nil, err
	}
	return func() {
		leave()
		release()
		<-s.busy
	}, nil
}

// explain makes an *Error, unless the context has ended.
func (s *lego) explain(ctx context.Context, op string, r TXT, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Error{Provider: s.name, Op: op, What: recordText(r), Reason: capped(err.Error(), s.name, s.env),
		ErrKind: "dns-update", temporary: true, NextStep: fmt.Sprintf("`mxcert providers %s` lists what it needs; try its API token by hand", s.name)}
}

// domainFor returns the domain for which lego uses the place that mxcert has found: lego derives the owner name from the
// domain, so an alias with the usual first label can be named directly, and lego must not follow a CNAME from there: it would
// follow one that a wildcard makes. Only for an alias without that label, lego has to follow the CNAME itself; named is then false.
func domainFor(r TXT) (domain string, named bool) {
	if domain, ok := strings.CutPrefix(resolve.PlainName(r.Name), "_acme-challenge."); ok {
		return domain, true
	}
	return r.Domain, false
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the provider crashed: %v", r)
	}
}

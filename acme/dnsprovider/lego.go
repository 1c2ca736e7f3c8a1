package dnsprovider

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"

	"mxcert/acme/resolve"
)

// constructor makes a lego provider from the process environment.
type constructor func() (challenge.Provider, error)

// lego adapts one of lego's providers, which know neither batches nor contexts.
type lego struct {
	name     string
	env      map[string]string // of which no value goes into an error
	provider challenge.Provider
	// busy is held while the provider works. A call that was given up goes on in its goroutine, and the clean-up after
	// it must wait for its end.
	busy chan struct{}
}

func newLego(name string, construct constructor, env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	s := &lego{name: name, env: env, busy: make(chan struct{}, 1)}
	err := withEnvironment(env, func() (err error) {
		defer recovered(&err)
		s.provider, err = construct()
		return err
	})
	if err != nil {
		return nil, &Error{Provider: name, Op: "set up", What: "its settings", Reason: capped(err.Error(), s.env), ErrKind: "dns-config",
			NextStep: fmt.Sprintf("`mxcert providers %s` lists the variables for dns.env", name)}
	}
	useResolvers(resolver.Servers())
	return s, nil
}

var resolversOnce sync.Once //nolint:gochecknoglobals // what it guards is a global of lego's

// useResolvers points lego's zone finding, whose servers are package variables, at the configured resolvers. It is done
// once: a process has one set of resolvers.
func useResolvers(servers []string) {
	resolversOnce.Do(func() { _ = dns01.AddRecursiveNameservers(servers)(nil) })
}

// Sequential gives what lego's provider says, which reads NAME_SEQUENCE_INTERVAL (lego's default: a minute).
func (s *lego) Sequential() (interval time.Duration, yes bool) {
	provider, yes := s.provider.(interface{ Sequential() time.Duration })
	if !yes {
		return 0, false
	}
	return provider.Sequential(), true
}

// Present makes the records one after another.
func (s *lego) Present(ctx context.Context, records []Record) error {
	for _, r := range records {
		if err := s.call(ctx, "create", r, s.provider.Present); err != nil {
			return err
		}
	}
	return nil
}

// CleanUp removes the records one after another; a failure does not keep it from the rest.
func (s *lego) CleanUp(ctx context.Context, records []Record) error {
	var first error
	for _, r := range records {
		if err := s.call(ctx, "remove", r, s.provider.CleanUp); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (s *lego) call(ctx context.Context, op string, r Record, f func(domain, token, keyAuth string) error) error {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-s.busy }()
		result <- func() (err error) {
			defer recovered(&err)
			return f(s.domainFor(r), r.Token, r.KeyAuth)
		}()
	}()
	select {
	case err := <-result:
		if err == nil {
			return nil
		}
		return &Error{Provider: s.name, Op: op, What: "TXT record " + strings.TrimSuffix(r.Name, "."), Reason: capped(err.Error(), s.env),
			ErrKind: "dns-update", temporary: true, NextStep: fmt.Sprintf("`mxcert providers %s` lists what it needs; try its API token by hand", s.name)}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// domainFor pins the place that was looked up: lego derives the owner name from the domain, so that an alias with the
// usual first label can be named directly. Only for an alias without it, lego has to follow the CNAME itself.
func (s *lego) domainFor(r Record) string {
	if domain, ok := strings.CutPrefix(strings.TrimSuffix(r.Name, "."), "_acme-challenge."); ok {
		return domain
	}
	return r.Domain
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the provider crashed: %v", r)
	}
}

// capped bounds foreign text and takes the values of the environment out of it: some providers put their token into a
// URL, and a network error shows that.
func capped(text string, env map[string]string) string {
	const most = 400
	for _, name := range slices.SortedFunc(maps.Keys(env), func(a, b string) int { return len(env[b]) - len(env[a]) }) {
		if value := env[name]; len(value) >= 6 {
			for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value)} {
				text = strings.ReplaceAll(text, form, "("+name+")")
			}
		}
	}
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

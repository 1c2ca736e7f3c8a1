// Package dnsprovider makes and removes the TXT records of the DNS-01 challenge (RFC 8555 section 8.4).
//
// A [Solver] takes all records of an order at once, so that a provider that can (RFC 2136) changes each zone with one
// message. rfc2136 and exec are mxcert's own; the other names are lego's providers, each with an environment of its own.
//
// Not supported: GSS-TSIG, unsigned updates over a network.
package dnsprovider

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/resolve"
)

// Record is one TXT record to make or remove.
type Record struct {
	resolve.Place        // owner name and zone, after CNAMEs
	Domain        string // identifier of the authorization, without "*."
	Value         string // base64url SHA-256 of KeyAuth
	Token         string // of the challenge
	KeyAuth       string // key authorization (RFC 8555 section 8.1)
}

// Solver makes and removes records.
//
// Present returns after the provider has accepted every record; a failure may leave some of them made, and CleanUp is
// then called with all. CleanUp removes exactly these values and leaves other values of the same names alone; a record
// that is already gone is no error. Both end soon after ctx does. A Solver is used by one order at a time.
type Solver interface {
	Present(ctx context.Context, records []Record) error
	CleanUp(ctx context.Context, records []Record) error
}

// Error is a failure of a provider.
type Error struct {
	Provider  string
	Op        string // "create", "remove" or "set up"
	What      string // zone, server or record concerned
	Reason    string
	ErrKind   string // "dns-update", "tsig", "dns-unreachable", "dns-config"
	NextStep  string
	temporary bool
}

// Error says what failed.
func (e *Error) Error() string {
	return fmt.Sprintf("DNS provider %s: cannot %s %s: %s", e.Provider, e.Op, e.What, e.Reason)
}

// Kind is a stable word.
func (e *Error) Kind() string { return e.ErrKind }

// Hint says what to do.
func (e *Error) Hint() string { return e.NextStep }

// Temporary is true where trying again later may help.
func (e *Error) Temporary() bool { return e.temporary }

// UnknownError says that there is no provider of a name.
type UnknownError struct {
	Name    string
	Similar string // "" where nothing is close
}

// Error names the provider.
func (e *UnknownError) Error() string { return fmt.Sprintf("there is no DNS provider %q", e.Name) }

// Kind is "dns-config".
func (e *UnknownError) Kind() string { return "dns-config" }

// Hint suggests a name.
func (e *UnknownError) Hint() string {
	if e.Similar != "" {
		return fmt.Sprintf("did you mean %q? `mxcert providers` lists all", e.Similar)
	}
	return "`mxcert providers` lists all"
}

// New sets up the provider of that name with its variables (lego's own names; a variable NAME_FILE names a file that
// holds the value). They are seen by this provider alone. The resolver finds zones and servers. The error is an *Error
// or an *UnknownError.
func New(name string, env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	if name == "exec" {
		return newProgram(env) // whose variables are its own, also those that end in _FILE
	}
	env, err := readFiles(name, env)
	if err != nil {
		return nil, err
	}
	if name == "rfc2136" || name == "dnsupdate" {
		return newRFC2136(env, resolver)
	}
	constructor, ok := constructors()[name]
	if !ok {
		return nil, &UnknownError{Name: name, Similar: similar(name)}
	}
	return newLego(name, constructor, env, resolver)
}

// Known reports whether there is a provider of that name; the error is an *UnknownError otherwise.
func Known(name string) error {
	if slices.Contains(Names(), name) || name == "dnsupdate" {
		return nil
	}
	return &UnknownError{Name: name, Similar: similar(name)}
}

// CheckVariables finds names that a provider of our own does not know; lego's are not looked at, because they read more
// variables than they describe. The error is an *Error.
func CheckVariables(provider string, names []string) error {
	if provider != "rfc2136" && provider != "dnsupdate" {
		return nil
	}
	for _, name := range names {
		if !isVariable(strings.TrimSuffix(name, "_FILE")) && !isVariable(name) {
			return setupError(name, "it is no variable of this provider", "`mxcert providers rfc2136` lists them")
		}
	}
	return nil
}

// Names lists the providers of this build in order.
func Names() []string {
	return slices.Sorted(maps.Keys(withOwn(constructors())))
}

func withOwn(m map[string]constructor) map[string]constructor {
	m["rfc2136"], m["exec"] = nil, nil
	return m
}

// similar finds the name that shares the longest prefix, at least three letters.
func similar(name string) string {
	best, length := "", 2
	for _, candidate := range Names() {
		n := 0
		for n < min(len(name), len(candidate)) && name[n] == candidate[n] {
			n++
		}
		if strings.Contains(candidate, name) {
			n = len(name)
		}
		if n > length {
			best, length = candidate, n
		}
	}
	return best
}

// Package dnsprovider creates and removes the TXT records of the DNS-01 challenge (RFC 8555 section 8.4).
//
// A [Solver] takes all records of an order at once, so that a provider that can (RFC 2136) changes each zone with one
// message (package dnsupdate). rfc2136, exec and certbot-hook are mxcert's own; the other names are lego's providers. An ordinary build has
// those that mail hosts use most; one with -tags allproviders has all of them (constructors_all.go).
//
// lego's providers were written for a program that does one thing and ends. Here several work at once for years, so each is set
// up in an environment of its own (environment.go), and waits its turn if two would disturb each other (turns.go,
// resolvers.go).
//
// Not supported: GSS-TSIG, unsigned updates over a network, lego's provider "manual".
package dnsprovider

import (
	"context"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/resolve"
)

//go:generate go run gen_main.go gen_source.go gen_toml.go

// TXT is one record to create or remove.
type TXT struct {
	resolve.Place        // owner name and zone, after CNAMEs
	Domain        string // identifier of the authorization, without "*."
	Value         string // base64url SHA-256 of KeyAuth
	Token         string // of the challenge
	KeyAuth       string // key authorization (RFC 8555 section 8.1)
}

// Solver creates and removes records.
//
// Present returns after the provider has accepted every record. If it fails, some of the records may exist. The caller must
// call CleanUp with all of them after every Present, even after one that failed: others may be waiting for it (see
// [Sequencer]). CleanUp removes exactly these values and leaves other values of the same names alone, as far as the provider
// can. A record that is already gone is not an error; [Forgotten] splits the error of CleanUp. Both end soon after ctx does. A
// Solver is used by one order at a time.
type Solver interface {
	Present(ctx context.Context, records []TXT) error
	CleanUp(ctx context.Context, records []TXT) error
}

// Checker is a [Solver] that can find out whether it would be allowed to do its work, without changing anything.
type Checker interface {
	// Check asks for each zone of the records whether the records could be created. Only their places and domains count.
	Check(ctx context.Context, records []TXT) error
	// Checked says in words what a Check without an error has shown; the name of the provider comes before it.
	Checked() string
}

// Preparer is a [Solver] that needs something in place before an order, and can tell what is missing.
type Preparer interface {
	// Prepare does what the Solver itself can do. The error names all that a person has to do. Of the records only their places
	// and domains count.
	Prepare(ctx context.Context, records []TXT) error
}

// Challenges returns the records that an order for these names would create, as far as their places can be found, without values.
func Challenges(ctx context.Context, resolver *resolve.Resolver, names []string) []TXT {
	var records []TXT
	for _, name := range names {
		domain := strings.TrimPrefix(name, "*.")
		if slices.ContainsFunc(records, func(r TXT) bool { return r.Domain == domain }) {
			continue
		}
		if place, err := resolver.Locate(ctx, "_acme-challenge."+domain); err == nil {
			records = append(records, TXT{Place: place, Domain: domain})
		}
	}
	return records
}

// New sets up the provider of that name with its variables (lego's own names; a variable NAME_FILE names a file that
// holds the value). Only this provider sees them. The resolver finds zones and servers. The error is an *Error.
func New(name string, env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	muteLibraries()
	name = canonical(name)
	switch name { // these read their own variables, including those that end in _FILE
	case "exec":
		return newExec(env)
	case "certbot-hook":
		return newCertbotHook(env)
	}
	description, err := Describe(name)
	if err != nil {
		return nil, err
	}
	env, err = readFiles(name, description, env)
	if err != nil {
		return nil, err
	}
	switch name {
	case "rfc2136":
		return newRFC2136(env, resolver)
	case "acme-dns":
		return newACMEDNS(description, constructors()[name], env, resolver)
	}
	return newLego(name, description, constructors()[name], env, resolver)
}

// Known reports whether there is a provider of that name; the error is an *Error otherwise.
func Known(name string) error {
	if slices.Contains(Names(), canonical(name)) {
		return nil
	}
	return unknown(name)
}

// Names lists the providers of this build in order.
func Names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(own())), maps.Keys(constructors()))
	slices.Sort(names)
	return names
}

// canonical returns the main name of a provider for which lego has several names.
func canonical(name string) string {
	switch name {
	case "dnsupdate":
		return "rfc2136"
	case "acmedns":
		return "acme-dns"
	case "domainnameshop":
		return "domeneshop"
	case "fastdns":
		return "edgedns"
	case "linodev4":
		return "linode"
	case "webnamesru":
		return "webnames"
	}
	return name
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

// recordText names a record in an error.
func recordText(r TXT) string { return "TXT record " + resolve.PlainName(r.Name) }

// Package preflight finds out before an order whether it could succeed: does a CAA record forbid the CA (RFC 8659, RFC
// 8657), does DNSSEC validate, in which zone does each challenge go, do the servers of that zone answer, does the CA have
// the profile?
//
// It changes nothing: it registers no account, places no order and creates no record. It judges as a CA would, from this host's
// view of DNS; a CA with another view may still refuse.
package preflight

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

const (
	// within bounds the whole look.
	within = 30 * time.Second
	// atOnce limits the questions that are under way at the same time.
	atOnce = 8
	// mostWord limits a word from DNS, in bytes.
	mostWord = 60
)

// Request is what an order would ask for.
type Request struct {
	Names    []string          // of the certificate, lower-case A-labels, wildcards allowed
	Profile  string            // "" leaves the choice to the CA
	Resolver *resolve.Resolver // the one that the order would use
	Require  resolve.Require   // with None, delegations and their servers are not looked at
}

// CA is what a CA says about itself, and the account there.
type CA struct {
	Name          string // for people
	Profiles      map[string]string
	CAAIdentities []string // see [transport.Directory]
	Account       string   // URL; "" if there is no account yet
	Err           error    // why the CA cannot be asked
}

var errNotLooked = errors.New("there was no time left to look")

// Run looks at the names of an order, and at the CAs to which it may go. It asks DNS once for all CAs, and each CA by the
// function that is given for it. If one CA would take the order, the refusals of the others are warnings.
//
// Run takes at most 30 s, ends soon after ctx does, and has at most eight questions under way. Findings come in the order
// of the names, those about the whole order first. Their IDs are ca, profile, caa, dnssec, challenge and delegation; the
// subject is the DNS name or zone, as people write it.
//
// An error means that a retry cannot succeed: a CAA record forbids the CA, DNSSEC does not validate, a name is not in any zone,
// the CA does not have the profile. A name server or CA that does not answer is a warning, because it may answer the order.
func Run(ctx context.Context, q Request, ask []func(context.Context) CA) []finding.Finding {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	survey := &survey{Resolver: q.Resolver, require: q.Require}
	cas := make([]CA, len(ask))
	tasks := survey.tasks(ctx, q.Names)
	for i := range ask {
		cas[i].Err = errNotLooked
		tasks = append(tasks, func() { cas[i] = ask[i](ctx) })
	}
	together(ctx, tasks)
	survey.zones(ctx)
	var byCA [][]finding.Finding
	for _, ca := range cas {
		byCA = append(byCA, ca.judge(q, survey))
	}
	return append(merged(byCA, cas), survey.findings()...)
}

// together runs tasks in parallel, atOnce at a time. A task that ctx prevented, or that panicked, has found nothing; its result
// says so from the start.
func together(ctx context.Context, tasks []func()) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, task := range tasks {
		group.Go(func() error {
			defer func() { _ = recover() }()
			if ctx.Err() == nil {
				task()
			}
			return nil
		})
	}
	_ = group.Wait() // there are no errors
}

// judge says whether one CA would accept the order.
func (c CA) judge(q Request, s *survey) []finding.Finding {
	if c.Err != nil {
		return []finding.Finding{finding.New("ca", finding.Warning, "the CA cannot be asked, so mxcert can judge neither profile nor CAA: %s", finding.Line(c.Err)).Next(hintIn(c.Err))}
	}
	findings := []finding.Finding{c.profile(q)}
	for _, name := range q.Names {
		findings = append(findings, c.caa(name, s.of(name)))
	}
	return findings
}

// profile judges the profile and its limit of names.
func (c CA) profile(q Request) finding.Finding {
	const id = "profile"
	_, known := c.Profiles[q.Profile]
	switch limit := c.mostNames(q.Profile); {
	case q.Profile != "" && !known && len(c.Profiles) == 0:
		return finding.New(id, finding.Warning, "%s has no profiles: acme.profile %s may be ignored", c.Name, q.Profile).Next("leave acme.profile out")
	case q.Profile != "" && !known:
		return finding.New(id, finding.Error, "%s has no profile %s", c.Name, q.Profile).
			Next("fix acme.profile; the CA has: " + strings.Join(slices.Sorted(maps.Keys(c.Profiles)), ", "))
	case limit > 0 && len(q.Names) > limit:
		return finding.New(id, finding.Error, "%d names are too many: the profile of %s allows %d", len(q.Names), c.Name, limit).
			Next("split the certificate, or choose another acme.profile")
	case q.Profile != "":
		return finding.New(id, finding.OK, "%s has profile %s", c.Name, q.Profile)
	}
	return finding.New(id, finding.OK, "mxcert asks %s for its default profile", c.Name)
}

// mostNames returns how many names a certificate of a profile may have; 0 if that is not known. The numbers are those that
// Let's Encrypt publishes (https://letsencrypt.org/docs/profiles/, November 2026); its default is classic.
func (c CA) mostNames(profile string) int {
	if c.Name != "letsencrypt.org" && !strings.HasSuffix(c.Name, ".letsencrypt.org") {
		return 0
	}
	switch profile {
	case "tlsserver", "shortlived":
		return 25
	case "", "classic":
		return 100
	}
	return 0
}

// merged puts the findings of several CAs together. If one of them refuses nothing, the refusals of the others are
// warnings.
func merged(byCA [][]finding.Finding, cas []CA) []finding.Finding {
	mild := slices.ContainsFunc(byCA, func(findings []finding.Finding) bool { return finding.Worst(findings) != finding.Error })
	var out []finding.Finding
	for i, findings := range byCA {
		for _, f := range findings {
			if f.Severity == finding.Error && mild {
				f.Severity = finding.Warning
				f.Message += "; mxcert asks another CA instead of " + cas[i].Name
			}
			out = append(out, f)
		}
	}
	return out
}

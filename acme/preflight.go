package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/resolve"
)

// preflightTime bounds a look before an order.
const preflightTime = 30 * time.Second

// Severity is how much a [Finding] matters.
type Severity string

// An error makes the order certain to fail; a warning may, or is worth knowing; ok is what was looked at and is well.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityOK      Severity = "ok"
)

// Finding is one thing that [Client.Preflight] looked at.
type Finding struct {
	ID       string // what was looked at: ca, profile, caa, dnssec, challenge, delegation
	Severity Severity
	Name     string // the DNS name or zone it is about, as people write it; "" for the whole order
	Message  string
	Hint     string // what to do; "" where all is well
}

// PreflightRequest is what an order would ask for.
type PreflightRequest struct {
	Names    []string          // of the certificate, lower-case A-labels, wildcards allowed
	Profile  string            // "" leaves the choice to the CA
	Resolver *resolve.Resolver // the one that the order would use
	Require  resolve.Require   // with None, delegations and their servers are not looked at
}

// Preflight tests whether an order of these names could succeed, and changes nothing anywhere: no account is registered,
// no order placed, no record made. It takes at most 30 s, ends soon after ctx does, and has at most eight questions under
// way. Findings come in the order of the names, those about the whole order first.
//
// Errors are only what no second try mends: a CAA record that forbids, DNSSEC that does not validate, a name in no zone, a
// profile that the CA does not have. A name server or CA that does not answer is a warning, because it may when the order
// is made.
func (c *Client) Preflight(ctx context.Context, q PreflightRequest) []Finding {
	return preflight(ctx, q, []*Client{c})
}

// Preflight is [Client.Preflight] for all CAs: DNS is asked once, and what one CA refuses is a warning while another
// would not.
func (a *Authorities) Preflight(ctx context.Context, q PreflightRequest) []Finding {
	return preflight(ctx, q, a.clients)
}

func preflight(ctx context.Context, q PreflightRequest, clients []*Client) []Finding {
	ctx, cancel := context.WithTimeout(ctx, preflightTime)
	defer cancel()
	survey := &survey{Resolver: q.Resolver, require: q.Require}
	said := make([]caVoice, len(clients))
	tasks := survey.tasks(ctx, q.Names)
	for i, c := range clients {
		tasks = append(tasks, func() { said[i] = c.voice(ctx) })
	}
	_ = inParallel(ctx, len(tasks), func(i int) error { tasks[i](); return nil }) // a task that ctx kept away has found nothing, which is said below
	survey.zones(ctx)
	var byCA [][]Finding
	for i := range clients {
		byCA = append(byCA, said[i].judge(q, survey))
	}
	return append(merged(byCA, said), survey.findings()...)
}

// caVoice is what a CA says about itself, and the account there.
type caVoice struct {
	host      string
	directory Directory
	err       error  // why it could not be asked
	account   string // URL; "" where there is none
}

func (c *Client) voice(ctx context.Context) caVoice {
	v := caVoice{host: authority.Name(c.settings.Directory)}
	v.directory, v.err = c.Directory(ctx)
	if account, ok, err := c.store.Account(c.settings.Directory); err == nil && ok {
		v.account = account.URL
	}
	return v
}

// judge says what one CA would make of the order.
func (v caVoice) judge(q PreflightRequest, s *survey) []Finding {
	if v.host == "" {
		v.err = errNotLooked
	}
	if v.err != nil {
		return []Finding{{ID: "ca", Severity: SeverityWarning, Message: "the CA cannot be asked, so that neither profile nor CAA can be judged: " + oneLine(v.err.Error()), Hint: hintIn(v.err)}}
	}
	findings := []Finding{v.profile(q)}
	for _, name := range q.Names {
		findings = append(findings, v.caa(name, s.of(name)))
	}
	return findings
}

var errNotLooked = errors.New("there was no time left to look")

// profile judges the profile and its limit of names.
func (v caVoice) profile(q PreflightRequest) Finding {
	f := Finding{ID: "profile", Severity: SeverityOK, Message: v.host + " is asked for its default profile"}
	if q.Profile != "" {
		f.Message = fmt.Sprintf("%s has profile %s", v.host, q.Profile)
	}
	switch limit := v.mostNames(q.Profile); {
	case !v.directory.Knows(q.Profile) && len(v.directory.Profiles) == 0:
		f.Severity, f.Message = SeverityWarning, fmt.Sprintf("%s has no profiles: acme.profile %s may be ignored", v.host, q.Profile)
		f.Hint = "leave acme.profile out"
	case !v.directory.Knows(q.Profile):
		f.Severity, f.Message = SeverityError, fmt.Sprintf("%s has no profile %s", v.host, q.Profile)
		f.Hint = "mend acme.profile; the CA has: " + strings.Join(v.profiles(), ", ")
	case limit > 0 && len(q.Names) > limit:
		f.Severity, f.Message = SeverityError, fmt.Sprintf("%d names are too many: the profile of %s allows %d", len(q.Names), v.host, limit)
		f.Hint = "split the certificate, or choose another acme.profile"
	}
	return f
}

func (v caVoice) profiles() []string {
	var names []string
	for name := range v.directory.Profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// mostNames is how many names a certificate of a profile may have; 0 where that is not known. The numbers are those that
// Let's Encrypt publishes (https://letsencrypt.org/docs/profiles/, November 2026); its default is classic.
func (v caVoice) mostNames(profile string) int {
	if v.host != "letsencrypt.org" && !strings.HasSuffix(v.host, ".letsencrypt.org") {
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

// merged puts the findings of several CAs together. While one of them refuses nothing, the refusals of the others are no
// errors.
func merged(byCA [][]Finding, said []caVoice) []Finding {
	refuses := func(findings []Finding) bool {
		return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == SeverityError })
	}
	mild := slices.ContainsFunc(byCA, func(findings []Finding) bool { return !refuses(findings) })
	var out []Finding
	for i, findings := range byCA {
		for _, f := range findings {
			if f.Severity == SeverityError && mild {
				f.Severity = SeverityWarning
				f.Message += "; another CA is asked instead of " + said[i].host
			}
			out = append(out, f)
		}
	}
	return out
}

// Blocked gives the error of findings that make an order certain to fail, nil where there is none: an *Error that names
// all of them, with the kind and the hint of the first. Its stage is "dns" where it is about zones and their servers, as it
// would be in an order, otherwise "preflight".
func Blocked(findings []Finding) error {
	var first *Error
	var messages []string
	for _, f := range findings {
		if f.Severity != SeverityError {
			continue
		}
		if first == nil {
			first = &Error{Stage: "preflight", ErrKind: f.ID, NextStep: f.Hint}
			switch f.ID {
			case "challenge", "delegation":
				first.Stage, first.ErrKind = "dns", "dns"
			case "dnssec":
				first.Stage = "dns"
			}
		}
		if !slices.Contains(messages, f.Message) {
			messages = append(messages, f.Message)
		}
	}
	if first == nil {
		return nil
	}
	first.Message = "the order would fail: " + strings.Join(messages, "; ")
	return first
}

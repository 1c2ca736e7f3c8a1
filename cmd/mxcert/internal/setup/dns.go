package setup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
)

// dns asks for the provider and its credentials, and tries them.
func (c *completion) dns() {
	if c.Provider == "" && c.person != nil {
		c.Provider = c.question(asked{Question: Question{Text: "DNS provider, the service that has your zone (? lists them)", Suggestion: "rfc2136"}, check: dnsprovider.Known,
			help: "rfc2136 is for BIND, Knot, PowerDNS and others that take dynamic updates; exec and certbot-hook run a script of yours. mxcert providers NAME explains one.\n" + strings.Join(dnsprovider.Names(), " ")})
	}
	c.Provider = cmp.Or(c.Provider, "rfc2136")
	if c.stopped != nil {
		return
	}
	if err := dnsprovider.Known(c.Provider); err != nil {
		c.problems = append(c.problems, &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("%w; %s", err, report.HintOf(err))})
		return
	}
	if c.person == nil {
		c.credentialsWithoutQuestions()
		return
	}
	for try := 1; c.stopped == nil; try++ {
		c.askCredentials(try > 1)
		if c.stopped != nil || c.usable() && c.tried() {
			return
		}
		if try == attempts {
			c.stopped = report.Usage("the settings of %s could not be used in %d attempts; nothing was written", c.Provider, attempts)
		}
	}
}

// credentialsWithoutQuestions takes secrets that are there already, and lists what is missing.
func (c *completion) credentialsWithoutQuestions() {
	ways, known := dnsprovider.Alternatives(c.Provider)
	if _, complete := dnsprovider.Complete(c.Provider, c.Env); complete || !known {
		return
	}
	var missing []string
	for _, variable := range ways[0].Variables {
		file := strings.ToLower(variable)
		switch {
		case dnsprovider.Set(c.Env, variable):
		case dnsprovider.Secret(c.Provider, variable) && slices.Contains(c.credentials(), file):
			c.Env[variable] = "cred:" + file
		default:
			missing = append(missing, variable)
		}
	}
	if len(missing) == 0 {
		return
	}
	text := fmt.Sprintf("the DNS provider %s (--dns-provider NAME takes another) needs %s: give each with --dns-env VARIABLE=VALUE, a secret as file:PATH or cred:NAME", c.Provider, strings.Join(missing, ", "))
	if len(ways) > 1 {
		text += "; mxcert providers " + c.Provider + " shows the alternatives"
	}
	c.missing("%s", text)
}

// askCredentials asks for the variables of one of the alternatives. again says that those which were given are to be asked again.
func (c *completion) askCredentials(again bool) {
	if _, complete := dnsprovider.Complete(c.Provider, c.Env); complete && !again {
		return
	}
	ways, known := dnsprovider.Alternatives(c.Provider)
	description, err := dnsprovider.Describe(c.Provider)
	if err != nil {
		c.stopped = err
		return
	}
	meaning := map[string]string{}
	for _, v := range description.Variables {
		meaning[v.Name] = v.Meaning
	}
	if !known {
		c.askAll(description)
		return
	}
	way := ways[0]
	if len(ways) > 1 {
		way = ways[c.choose(ways)]
	}
	if again { // what belongs to another alternative must not stay
		c.Env = map[string]string{}
	}
	for _, variable := range slices.Concat(way.Variables, way.Optional) {
		if c.stopped == nil && !dnsprovider.Set(c.Env, variable) {
			c.variable(variable, meaning[variable], slices.Contains(way.Optional, variable))
		}
	}
}

// choose asks for one of several ways, and returns its index.
func (c *completion) choose(ways []dnsprovider.Alternative) int {
	for i, way := range ways {
		c.person.Say("  %d  %s", i+1, way.Meaning)
	}
	number := 0
	c.question(asked{Question: Question{Text: fmt.Sprintf("which credentials of %s (1 to %d)", c.Provider, len(ways)), Suggestion: "1"},
		help: "mxcert providers " + c.Provider + " explains the variables",
		check: func(answer string) (err error) {
			if number, err = strconv.Atoi(answer); err != nil || number < 1 || number > len(ways) {
				return fmt.Errorf("answer a number from 1 to %d", len(ways))
			}
			return nil
		}})
	return max(0, number-1)
}

// askAll asks for the credentials of a provider of which it is not known what belongs together.
func (c *completion) askAll(description dnsprovider.Description) {
	c.person.Say("%s has several ways to identify you, see mxcert providers %s; leave empty what you do not use", description.Name, c.Provider)
	for _, v := range description.Variables {
		if v.Credential && c.stopped == nil && c.Env[v.Name] == "" {
			c.variable(v.Name, v.Meaning, true)
		}
	}
}

// variable asks for one variable.
func (c *completion) variable(name, meaning string, optional bool) {
	text, help := fmt.Sprintf("%s (%s)", name, cmp.Or(meaning, "no description")), "see mxcert providers "+c.Provider
	var value string
	if dnsprovider.Secret(c.Provider, name) {
		value = c.secret(text, strings.ToLower(name), help, optional)
	} else {
		q := asked{Question: Question{Text: text}, optional: optional, help: help, check: c.readable}
		if name == "DNSUPDATE_NAMESERVER" {
			q.Suggestion = c.primary()
		}
		value = c.question(q)
	}
	if value != "" {
		c.Env[name] = value
	}
}

// primary returns the name server that takes updates for the first name, as DNS says it.
func (c *completion) primary() string {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if len(c.Domains) == 0 {
		return ""
	}
	place, err := resolve.New(c.Resolvers).Locate(ctx, "_acme-challenge."+strings.TrimPrefix(c.Domains[0], "*."))
	if err != nil {
		return ""
	}
	return resolve.PlainName(place.Primary)
}

// solver sets up the provider with the values that the variables stand for.
func (a *Answers) solver() (dnsprovider.Solver, *resolve.Resolver, error) {
	env := map[string]string{}
	for name, text := range a.Env {
		value, err := a.value(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		env[name] = value
	}
	resolver := resolve.New(a.Resolvers, env["DNSUPDATE_NAMESERVER"])
	solver, err := dnsprovider.New(a.Provider, env, resolver)
	return solver, resolver, err
}

// usable sets up the provider: it may find that a value is malformed.
func (c *completion) usable() bool {
	if _, _, err := c.solver(); err != nil {
		c.person.Say("%s", said(err))
		return false
	}
	return true
}

// tried offers the live test. It returns false if the person wants to answer again.
func (c *completion) tried() bool {
	const help = "mxcert creates a TXT record with a random value at _acme-challenge.NAME, looks for it on the authoritative name servers, and removes it. Other records stay."
	if !c.agrees("try it now: create a TXT record at _acme-challenge of each name, see it in DNS, and remove it?", "yes", help) {
		return c.stopped == nil
	}
	err := c.TryDNS(c.ctx, func(text string) { c.person.Say("  %s", text) })
	if err == nil {
		c.person.Say("the DNS provider works")
		return true
	}
	c.person.Say("the test failed: %s", said(err))
	return c.agrees("keep these settings anyway? (no asks for them again)", "no", "they are written, and mxcert doctor tests them again")
}

// dnsTestTime is how long a test record may need until all name servers show it.
const dnsTestTime = 2 * time.Minute

// TryDNS makes the provider create, show and remove a TXT record for each name of the certificate. The error says what failed, and has a hint.
func (a *Answers) TryDNS(ctx context.Context, progress func(string)) error {
	solver, resolver, err := a.solver()
	if err != nil {
		return err
	}
	return dnsprovider.Rehearse(ctx, solver, resolver, a.Domains, resolve.All, dnsTestTime, progress)
}

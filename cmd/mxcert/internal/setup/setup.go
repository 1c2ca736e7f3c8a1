// Package setup makes a first configuration of mxcert from what it finds on the host and what a person answers.
//
// [Look] finds the host's names, its MX names and its mail servers: what they read, and where they listen. [Answers.Complete] fills in what is
// still missing, from those findings and by questions, and checks each answer at once. [Answers.Draft] turns the answers into the text of a
// configuration, which is checked; [Draft.Write] then writes it and the credentials, all or nothing. [Answers.Changes] are the changes that
// make the servers read the certificate. The files exist before a server is told to read them; the server's own programs try the change on a
// copy first; the server is reloaded, and never restarted; and what it does not accept is taken back.
//
// The package does not handle flags or terminals, prints nothing, and issues nothing. Not supported yet: more than one certificate.
package setup

import (
	"context"
	"errors"
	"slices"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
)

// These are the mail servers that an answer may name: the kinds of deployment targets, and none.
const (
	exim    = "exim"
	postfix = "postfix"
	dovecot = "dovecot"
	files   = "files"
	none    = "none"
)

// Answers are what a first configuration needs. An empty answer is not known yet.
type Answers struct {
	Agreed           bool // to the CA's terms of service
	Email            string
	Directory        string // of the CA: a name or a URL
	CAFile           string // roots of a private CA's HTTPS
	EABKeyID, EABKey string // external account binding
	Domains          []string
	MailDomains      []string          // whose MX host names mxcert adds
	Provider         string            // of DNS
	Env              map[string]string // of the provider
	Resolvers        []string          // none: the system's
	MailServers      []string          // exim, postfix and dovecot; or files; or none
	Certificate, Key string            // paths, for the only target; the same one twice for a file with both
	Unit             string            // to reload, for the only target
	Credentials      string            // path of the directory in which secrets are kept

	// Complete sets these.
	Keys      []string // types of key
	Targets   []Target
	Endpoints []string // that show the certificate; nil if that is not known, so that the configuration leaves it to mxcert
}

// Complete fills in missing answers: from what was found on the host, by questions, and with the usual values. person is nil if there is
// nobody to ask; then the suggestions of the questions are the answers. The error is wrong usage; it lists everything that is still missing,
// each with the flag of mxcert init that sets it. Nothing is written.
func (a *Answers) Complete(ctx context.Context, host Host, person *Person) error {
	c := &completion{Answers: a, ctx: ctx, host: host, person: person}
	if a.Env == nil {
		a.Env = map[string]string{}
	}
	for _, step := range []func(){c.given, c.names, c.authority, c.dns, c.servers} {
		if step(); c.stopped != nil {
			return c.stopped
		}
	}
	return errors.Join(c.problems...)
}

// completion is one call of Complete.
type completion struct {
	*Answers
	ctx      context.Context //nolint:containedctx // of the one call
	host     Host
	person   *Person
	used     []string // credentials that were chosen
	problems []error
	stopped  error // there are no more answers
}

func (c *completion) missing(format string, values ...any) {
	c.problems = append(c.problems, report.Usage(format, values...))
}

// given checks the answers that flags have given.
func (c *completion) given() {
	for _, g := range []struct {
		flag, value string
		check       func(string) error
	}{
		{"--domain", strings.Join(c.Domains, " "), validNames},
		{"--mail-domain", strings.Join(c.MailDomains, " "), validMailDomains},
		{"--directory", aliasOf(c.Directory), validDirectory},
		{"--ca-file", c.CAFile, validRoots},
		{"--email", c.Email, validEmail("https://ca.invalid/")}, // that a public CA refuses an example is only a warning
		{"--mta", strings.Join(c.MailServers, " "), each(validServer)},
	} {
		if g.value == "" {
			continue
		}
		if err := g.check(g.value); err != nil {
			c.missing("%s: %s", g.flag, said(err))
		}
	}
	if len(c.problems) > 0 {
		c.stopped = errors.Join(c.problems...)
	}
}

func (c *completion) names() {
	if c.person != nil {
		suggestion := strings.Join(c.Domains, ", ")
		if len(c.Domains) == 0 {
			suggestion = strings.Join(c.host.Names, ", ")
		}
		c.Domains = namesIn(c.question(asked{Question: Question{Text: "names in the certificate, the one in the MX record first", Suggestion: suggestion}, check: validNames,
			help: "the names by which senders and mail programs reach this host, separated by spaces: mx.example.org imap.example.org; *.example.org stands for all names below it"}))
	}
	if len(c.Domains) == 0 {
		c.Domains = c.host.Names
	}
	if len(c.Domains) == 0 && c.stopped == nil {
		c.missing("the name of this host is not known: give it with --domain")
	}
	c.mailDomains()
}

// mailDomains proposes the domains whose MX host is this host.
func (c *completion) mailDomains() {
	switch {
	case c.stopped != nil || len(c.MailDomains) == 0 && len(c.host.MailDomains) == 0:
	case c.person == nil && len(c.MailDomains) == 0:
		c.MailDomains = c.host.MailDomains
	case c.person != nil:
		suggestion := c.MailDomains
		if len(suggestion) == 0 {
			suggestion = c.host.MailDomains
		}
		c.MailDomains = namesIn(c.question(asked{Question: Question{Text: "mail domains whose MX records mxcert follows, or none", Suggestion: strings.Join(suggestion, ", ")}, check: validMailDomains,
			help: "mxcert then asks each hour which MX hosts of these domains have an address of this host, and adds and drops their names; none leaves the names to you"}))
	}
	if slices.Equal(c.MailDomains, []string{none}) {
		c.MailDomains = nil
	}
}

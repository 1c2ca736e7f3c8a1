// Package setup makes a first configuration of mxcert from what it finds on the host and what a person answers.
//
// [Look] finds the host's names, its MX names and its mail server. [Answers.Complete] fills in what is still missing, from those
// findings and by questions. [Answers.Draft] turns the answers into the text of a configuration, which is checked before
// [Draft.Write] puts anything in its place; credentials for a DNS provider go into files of their own. On Debian, [PlanExim]
// shows which macros make Exim read the certificate, and applies them; Exim is reloaded and never restarted.
//
// The package does not handle flags or terminals, prints nothing, and issues and deploys nothing. Not supported yet: finding
// Postfix and Dovecot, and more than one certificate.
package setup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert/internal/report"
)

// These are the mail servers that an answer may name: the kinds of deployment targets, and none.
const (
	exim  = "exim"
	files = "files"
	none  = "none"
)

// Answers are what a first configuration needs. An empty answer is not known yet.
type Answers struct {
	Agreed           bool // to the CA's terms of service
	Email            string
	Directory        string // of the CA: a name or a URL
	CAFile           string // roots of a private CA's HTTPS
	Domains          []string
	Provider         string            // of DNS
	Env              map[string]string // of the provider
	Resolvers        []string          // none: the system's
	MailServer       string            // exim, files or none
	Certificate, Key string            // paths; the same one twice for a file with both
	Unit             string            // to reload
}

// Ask puts one question to a person and returns the answer, or the suggestion if the answer is empty.
type Ask func(question, suggestion string) string

// Complete fills in missing answers: from what was found on the host, by questions, and with the usual paths. ask is nil if
// there is no person to ask. The error is wrong usage; it lists everything that is still missing, each with the flag of mxcert
// init that sets it.
func (a *Answers) Complete(host Host, ask Ask) error {
	c := &completion{Answers: a, host: host, ask: ask}
	if a.Env == nil {
		a.Env = map[string]string{}
	}
	c.names()
	c.authority()
	c.dns()
	c.mailServer()
	return errors.Join(c.problems...)
}

// completion is one call of Complete.
type completion struct {
	*Answers
	host     Host
	ask      Ask
	problems []error
}

func (c *completion) missing(format string, values ...any) {
	c.problems = append(c.problems, report.Usage(format, values...))
}

// need makes sure that a required answer is there.
func (c *completion) need(answer *string, question, flag, suggestion string) {
	if *answer == "" && c.ask != nil {
		*answer = c.ask(question, suggestion)
	}
	if *answer == "" {
		c.missing("%s is missing: give it with %s", question, flag)
	}
}

func (c *completion) names() {
	if len(c.Domains) == 0 {
		c.Domains = c.host.Names
	}
	names := strings.Join(c.Domains, ", ")
	if c.ask != nil {
		names = c.ask("names in the certificate, the one in the MX record first", names)
	}
	c.Domains = strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	if len(c.Domains) == 0 {
		c.missing("the name of this host is not known: give it with --domain")
	}
}

func (c *completion) authority() {
	if c.ask != nil && c.Email == "" {
		c.Email = c.ask("address to which the CA may write (may be empty)", "")
	}
	if c.ask != nil && !c.Agreed {
		c.Agreed = Yes(c.ask("have you read the terms of service of "+c.Directory+", and do you agree to them? (yes/no)", ""))
	}
	if !c.Agreed {
		c.missing("a CA issues certificates only to those who agree to its terms: read them, then give --agree-tos")
	}
}

// Yes reports whether an answer is yes.
func Yes(answer string) bool { return strings.HasPrefix(strings.ToLower(answer), "y") }

func (c *completion) dns() {
	c.need(&c.Provider, "DNS provider (mxcert providers lists them)", "--dns-provider", "rfc2136")
	if c.Provider == "" {
		return
	}
	if err := dnsprovider.Known(c.Provider); err != nil {
		c.problems = append(c.problems, &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("%w; %s", err, report.HintOf(err))})
		return
	}
	description, err := dnsprovider.Describe(c.Provider)
	if err != nil {
		c.problems = append(c.problems, err)
		return
	}
	for _, v := range description.Variables {
		if c.ask == nil || !v.Required || c.Env[v.Name] != "" || c.Env[v.File] != "" {
			continue
		}
		if value := c.ask(fmt.Sprintf("%s (%s)", v.Name, v.Meaning), ""); value != "" {
			c.Env[v.Name] = value
		}
	}
}

// mailServer chooses the server and the files. Exim keeps reading the paths that it reads now.
func (c *completion) mailServer() {
	if c.MailServer == "" {
		c.MailServer = c.host.MailServer
	}
	if c.MailServer != exim && c.MailServer != files && c.MailServer != none {
		c.MailServer = ""
		c.need(&c.MailServer, "mail server: exim, files or none", "--mta", files)
	}
	switch c.MailServer {
	case exim:
		c.eximFiles()
	case files:
		c.need(&c.Certificate, "path of the certificate", "--certificate", keysDirectory+"mx.crt")
		c.need(&c.Key, "path of its key", "--private-key", keysDirectory+"mx.key")
	}
}

// keysDirectory is where the service may write without further rights; the packages create it.
const keysDirectory = "/var/lib/mxcert-keys/"

func (c *completion) eximFiles() {
	if c.Unit == "" {
		c.Unit = "exim4.service"
	}
	if c.Certificate == "" && c.Key == "" {
		c.Certificate, c.Key = c.host.Exim.Pair.Certificate, c.host.Exim.Pair.Key
	}
	if c.Certificate == "" {
		c.Certificate = keysDirectory + "mx.crt"
	}
	if c.Key == "" {
		c.Key = strings.TrimSuffix(c.Certificate, filepath.Ext(c.Certificate)) + ".key"
	}
}

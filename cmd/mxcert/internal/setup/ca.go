package setup

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/session"
	"mxcert/acme/transport"
	"mxcert/cmd/mxcert/internal/report"
)

// caTime limits the question to a CA.
const caTime = 20 * time.Second

// ca is what a CA says about itself.
type ca struct {
	name  string // for messages
	terms string // URL; "" if there are none, or if the CA cannot be reached
	bound bool   // a new account needs an external binding (RFC 8555 section 7.3.4)
	err   error  // why the CA cannot be reached
}

// authority asks for everything that concerns the CA.
func (c *completion) authority() {
	if c.Directory == "" && c.person != nil {
		c.Directory = c.question(asked{Question: Question{Text: "CA: " + strings.Join(authority.Names(), ", ") + ", or the URL of an ACME directory", Suggestion: "letsencrypt"},
			help:  "letsencrypt is free and needs no registration. zerossl and google want an account on their pages first, which gives a key identifier and a MAC key. Senders do not trust letsencrypt-staging: it is for rehearsals.",
			check: func(answer string) error { return validDirectory(aliasOf(answer)) }})
	}
	c.Directory = aliasOf(cmp.Or(c.Directory, "letsencrypt"))
	if c.person == nil && c.Agreed && !c.mayNeedBinding() {
		return // nothing depends on what the CA says
	}
	found := c.lookAtCA()
	c.binding(found)
	if c.person != nil && c.Email == "" {
		c.Email = c.question(asked{Question: Question{Text: "mail address to which the CA may write (may be empty)"}, optional: true,
			help: "the CA uses it for notices about your account, such as a revocation. Many CAs send none.", check: validEmail(c.Directory)})
	}
	c.terms(found)
}

// aliasOf is what a person calls the staging CA.
func aliasOf(directory string) string {
	if directory == "staging" {
		return "letsencrypt-staging"
	}
	return directory
}

// mayNeedBinding reports whether the CA is one that takes only accounts with an external binding.
func (c *completion) mayNeedBinding() bool {
	return c.Directory == "zerossl" || c.Directory == "google"
}

// lookAtCA asks the CA. If its certificate has an unknown root, a person may name a file with it.
func (c *completion) lookAtCA() ca {
	found := c.askCA()
	_, unknownRoot := errors.AsType[x509.UnknownAuthorityError](found.err)
	if unknownRoot && c.CAFile == "" && c.person != nil {
		c.person.Say("%s", said(found.err))
		c.CAFile = c.question(asked{Question: Question{Text: "file with the roots of this CA's HTTPS (PEM; empty if there is none)"}, optional: true,
			help: "a private CA has a root of its own. Its administrator has the file.", check: validRoots})
		if c.CAFile != "" {
			found = c.askCA()
		}
	}
	if found.err != nil && c.person != nil {
		c.person.Say("%s", said(found.err))
	}
	return found
}

func (c *completion) askCA() ca {
	if c.stopped != nil {
		return ca{}
	}
	directory, known := authority.Directory(c.Directory)
	if !known {
		directory = c.Directory
	}
	found := ca{name: authority.Name(directory), bound: c.mayNeedBinding()}
	settings := transport.Settings{Directory: directory, Patience: caTime}
	if c.CAFile != "" {
		if settings.Roots, found.err = readRoots(c.CAFile); found.err != nil {
			return found
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, caTime)
	defer cancel()
	pool := transport.New(settings)
	defer pool.Close()
	answer, err := session.Directory(ctx, pool)
	if err != nil {
		found.err = err
		return found
	}
	found.terms, found.bound = answer.Terms, answer.EABRequired
	return found
}

func validRoots(path string) error {
	_, err := readRoots(path)
	return err
}

func readRoots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

// binding asks for the external account binding, if the CA needs one.
func (c *completion) binding(found ca) {
	if !found.bound || c.EABKeyID != "" && c.EABKey != "" {
		return
	}
	if c.person == nil {
		c.missing("%s takes only accounts with an external binding: get a key identifier and a MAC key on its pages, and give them with --eab-kid and --eab-hmac-key (file:PATH)", c.Directory)
		return
	}
	const help = "the pages of the CA show both when you ask for EAB credentials (External Account Binding) there"
	c.person.Say("%s takes only accounts with an external binding", found.name)
	c.EABKeyID = c.question(asked{Question: Question{Text: "key identifier (EAB kid)", Suggestion: c.EABKeyID}, help: help})
	c.EABKey = c.secret("MAC key (EAB hmac key)", eabFile, help, false)
}

// terms asks whether the person agrees to the CA's terms.
func (c *completion) terms(found ca) {
	what := "the terms of service of " + found.name
	switch {
	case found.terms != "":
		what += ", " + found.terms + ","
	case found.err != nil:
		what += " (it cannot be reached, so that their address is not known)"
	}
	if c.person != nil && !c.Agreed && c.stopped == nil {
		c.Agreed = c.agrees("have you read "+what+" and do you agree to them?", "", "the CA shows its terms at that address. It issues certificates only to those who agree.")
		if !c.Agreed && c.stopped == nil {
			c.stopped = report.Usage("a CA issues certificates only to those who agree to its terms; nothing was written")
		}
	}
	if !c.Agreed && c.person == nil {
		c.missing("a CA issues certificates only to those who agree to its terms: read %s then give --agree-tos", what)
	}
}

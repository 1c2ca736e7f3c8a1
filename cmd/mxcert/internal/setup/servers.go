package setup

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/deploy"
)

// keysDirectory is where the service may write without further rights; the packages create it.
const keysDirectory = "/var/lib/mxcert-keys/"

// validServer checks one word about the mail server.
func validServer(kind string) error {
	if slices.Contains([]string{exim, postfix, dovecot, files, none}, kind) {
		return nil
	}
	return refusal{"mxcert knows exim, postfix, dovecot, files (any service that reads PEM files) and none", ""}
}

// each checks each word of an answer.
func each(check func(string) error) func(string) error {
	return func(answer string) error {
		for _, word := range namesIn(answer) {
			if err := check(word); err != nil {
				return err
			}
		}
		return nil
	}
}

// servers chooses the servers and the files.
func (c *completion) servers() {
	if len(c.MailServers) == 0 {
		for _, s := range c.host.Servers {
			c.MailServers = append(c.MailServers, s.Kind)
		}
	}
	if len(c.MailServers) == 0 {
		c.MailServers = []string{files}
		if c.person != nil {
			c.MailServers = namesIn(c.question(asked{Question: Question{Text: "mail server: exim, postfix, dovecot, files or none", Suggestion: files},
				check: each(validServer), help: "files writes the certificate and the key for any program; none keeps them in mxcert's state directory"}))
		}
	}
	special := slices.Contains(c.MailServers, files) || slices.Contains(c.MailServers, none)
	switch {
	case c.stopped != nil:
	case special && len(c.MailServers) > 1:
		c.missing("--mta: files and none stand alone")
	case c.MailServers[0] == none:
	case c.MailServers[0] == files:
		c.plainFiles()
	default:
		c.targets()
	}
}

// plainFiles asks for the paths for a program that mxcert does not know.
func (c *completion) plainFiles() {
	for _, path := range []struct {
		to               *string
		text, suggestion string
	}{{&c.Certificate, "path of the certificate", keysDirectory + "mx.crt"}, {&c.Key, "path of its key", keysDirectory + "mx.key"}} {
		if *path.to == "" && c.person != nil {
			*path.to = c.question(asked{Question: Question{Text: path.text, Suggestion: path.suggestion}, check: validPath,
				help: "a file that the program reads. mxcert creates it. The same path twice is a file with both"})
		}
		*path.to = cmp.Or(*path.to, path.suggestion)
	}
	c.Targets = []Target{{Kind: files, Pairs: []deploy.Pair{{Certificate: c.Certificate, Key: c.Key}}, Unit: c.Unit}}
}

func validPath(path string) error {
	if filepath.IsAbs(path) {
		return nil
	}
	return refusal{"write the whole path, which begins with /", ""}
}

// targets proposes the targets of the mail servers. Flags override the paths and the unit of a single one.
func (c *completion) targets() {
	var servers []Server
	for _, kind := range c.MailServers {
		servers = append(servers, c.host.server(kind))
	}
	paths := c.Certificate != "" || c.Key != ""
	if len(servers) > 1 && (paths || c.Unit != "") {
		c.missing("--certificate, --private-key and --unit are for one server, and there are %d: name it with --mta", len(servers))
		return
	}
	c.Keys = keysOf(servers)
	if paths {
		c.Keys = c.Keys[:1]
	}
	c.Targets = propose(servers, c.Keys)
	if t := &c.Targets[0]; paths {
		t.Pairs = []deploy.Pair{{Certificate: cmp.Or(c.Certificate, c.Key), Key: cmp.Or(c.Key, strings.TrimSuffix(c.Certificate, filepath.Ext(c.Certificate))+".key")}}
		t.Group = groupFor(t.server, t.Pairs[0].Key)
	}
	c.Targets[0].Unit = cmp.Or(c.Unit, c.Targets[0].Unit)
	arrange(c.Targets)
	for _, s := range servers {
		c.Endpoints = append(c.Endpoints, s.Endpoints...)
	}
}

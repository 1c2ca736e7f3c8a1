package configs

import (
	"cmp"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// The services that know what is in the logs.
const (
	ctCertSpotter = "certspotter"
	ctCrtSh       = "crtsh"
)

func ctSources() []string { return []string{ctCertSpotter, ctCrtSh} }

// howToToken is an example of a source with a token.
const howToToken = `certspotter: {token: "cred:ct"}`

// ctSource decodes a word, or a mapping whose only key is the kind.
func (l *loader) ctSource(n *yaml.Node, path string, to *CTSource) {
	unknown := func(word string) string {
		return cmp.Or(suggest(word, ctSources()), "known: "+strings.Join(ctSources(), ", "))
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && slices.Contains(ctSources(), n.Value):
		to.Kind = n.Value
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		l.bad(path, unknown(n.Value), "%s is not a service that mxcert can ask", quote(n.Value))
	case n.Kind != yaml.MappingNode:
		l.wrongType(n, path, "must be certspotter, crtsh, or a section such as "+howToToken)
	case len(n.Content) != 2:
		l.bad(path, "write each source as an element of its own: [certspotter, crtsh]", "has %s, but a source is one service", count(len(n.Content)/2, "service"))
	case !slices.Contains(ctSources(), n.Content[0].Value):
		l.hideAll(n.Content[1])
		l.keyFault(path, n.Content[0], "unknown source "+quote(n.Content[0].Value), unknown(n.Content[0].Value))
	default:
		l.hideAll(n.Content[1])
		to.Kind = n.Content[0].Value
		p := join(path, to.Kind)
		l.place(p, n.Content[0], n.Content[1])
		l.mapping(n.Content[1], p, reflect.ValueOf(to).Elem())
	}
}

// checkCT checks the section, and fills in what is asked by default.
func (l *loader) checkCT(c *CT) {
	if len(c.Sources) == 0 && !l.touched["ct.sources"] {
		if l.index.places["ct.sources"].src != nil && c.Watch {
			l.bad("ct.sources", "name certspotter, or set watch: false", "the list is empty: nobody is asked")
		}
		c.Sources = []CTSource{{Kind: ctCertSpotter}}
	}
	var kinds []string
	for i := range c.Sources {
		p := at("ct.sources", i)
		if l.index.places[p].src == nil { // written without a list
			p = "ct.sources"
		}
		if kind := c.Sources[i].Kind; kind != "" && slices.Contains(kinds, kind) && !l.touched[p] {
			l.bad(p, "remove one of the two", "%s is there twice", kind)
		}
		kinds = append(kinds, c.Sources[i].Kind)
		l.checkCTSource(join(p, c.Sources[i].Kind), &c.Sources[i])
	}
	if c.Interval > 0 && c.Interval < time.Hour && !l.touched["ct.interval"] {
		l.bad("ct.interval", "write 1h or more, such as 6h", "%s is too short: the services allow few requests, and logs show a certificate after hours", shortDuration(c.Interval))
	}
	if c.Interval > 7*24*time.Hour && !l.touched["ct.interval"] {
		l.bad("ct.interval", "write 7d or less, such as 6h", "%s is too long: a forged certificate does its harm in days", shortDuration(c.Interval))
	}
	l.checkPath("ct.log_list", c.LogList)
	for i, pattern := range c.Ours {
		p := at("ct.ours", i)
		if l.index.places[p].src == nil {
			p = "ct.ours"
		}
		l.checkPath(p, pattern)
		if _, err := filepath.Match(pattern, ""); err != nil && !l.touched[p] {
			l.bad(p, `a pattern has * and ? and [a-z]; write \[ for a bracket`, "%s is not a pattern of files", quote(pattern))
		}
	}
	l.unique("ct.ours", c.Ours)
	if !c.Watch && l.index.places["ct.watch"].src == nil && l.index.places["ct.sources"].src != nil {
		l.warn("ct.sources", "write watch: true to have the daemon look, too", "only mxcert ct check asks them, because watch is not set")
	}
}

// checkCTSource checks the settings of a source.
func (l *loader) checkCTSource(p string, s *CTSource) {
	if s.Token != "" && s.Kind == ctCrtSh {
		l.bad(join(p, "token"), "remove it", "crt.sh has no tokens")
		return
	}
	if l.checkSecret(join(p, "token"), s.Token, variable{}); s.Token.String() == hidden {
		l.bad(join(p, "token"), "write token: cred:ct, and put the token into "+credentials+"/ct", "the token itself does not belong into this file")
	}
	if s.URL == "" {
		return
	}
	if err := apiURL(s.URL); err != nil {
		address := s.URL
		if strings.Contains(address, "@") {
			l.index.hide(join(p, "url"), address)
			address = hidden
		}
		l.bad(join(p, "url"), "write https://HOST", "%s: %v", quote(address), err)
	}
}

// encodeCTSource writes a source as it was read.
func (e encoder) encodeCTSource(s CTSource) *yaml.Node {
	if s.URL == "" && s.Token == "" {
		return text(s.Kind)
	}
	return mappingOf(plain(s.Kind), e.encodeStruct(reflect.ValueOf(s)))
}

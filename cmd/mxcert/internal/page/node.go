package page

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/idna"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// part is what an element can have: an attribute, a text, or another element.
type part interface{ into(n *html.Node) }

type (
	element   html.Node
	attribute html.Attribute
	text      string
	parts     []part
)

func (e *element) into(n *html.Node) {
	if e != nil {
		n.AppendChild((*html.Node)(e))
	}
}

func (a attribute) into(n *html.Node) { n.Attr = append(n.Attr, html.Attribute(a)) }

func (t text) into(n *html.Node) {
	if t != "" {
		n.AppendChild(&html.Node{Type: html.TextNode, Data: clean(string(t))})
	}
}

func (list parts) into(n *html.Node) {
	for _, p := range list {
		p.into(n)
	}
}

// el makes an element.
func el(tag string, list ...part) *element {
	n := &html.Node{Type: html.ElementNode, Data: tag}
	parts(list).into(n)
	return (*element)(n)
}

// is makes an attribute. The value must be one of mxcert's own, or clean.
func is(name, value string) attribute { return attribute{Key: name, Val: clean(value)} }

// class makes the attribute class.
func class(value string) attribute { return is("class", value) }

// say makes a text of mxcert's own words. Foreign texts in it must be quoted.
func say(format string, values ...any) text { return text(fmt.Sprintf(format, values...)) }

// foreign makes a text of what a peer, a file or a program says: one line, bounded.
func foreign(s string) text { return text(finding.QuoteLink(report.OneLine(s), mostText)) }

// clean replaces what cannot be printed, such as characters that change the direction of writing.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// moment shows a time.
func moment(t time.Time) *element {
	return el("time", is("datetime", t.UTC().Format(time.RFC3339)), text(report.Minute(t)))
}

// hostName shows a DNS name, and how people write it if that differs. The form that DNS has always comes first, so that no name passes for
// another one.
func hostName(name string) parts {
	name = finding.Quote(name, 255)
	list := parts{text(name)}
	if !strings.Contains(name, "xn--") {
		return list
	}
	if people, err := idna.Display.ToUnicode(name); err == nil && people != name && !strings.ContainsFunc(people, func(r rune) bool { return !unicode.IsPrint(r) }) {
		list = append(list, say(" "), el("bdi", class("soft"), say("(%s)", people)))
	}
	return list
}

// flat renders an element, so that a long list takes the memory of its text, and not of its tree. It also returns the size of that, in bytes.
func flat(e *element) (*element, int) {
	if e == nil {
		return nil, 0
	}
	var b strings.Builder
	_ = html.Render(&b, (*html.Node)(e)) // writing to memory does not fail
	return (*element)(&html.Node{Type: html.RawNode, Data: b.String()}), b.Len()
}

// write writes a document with an element as its root.
func write(w io.Writer, root *element) error {
	document := &html.Node{Type: html.DocumentNode}
	document.AppendChild(&html.Node{Type: html.DoctypeNode, Data: "html"})
	root.into(document)
	return html.Render(w, document)
}

// raw makes an element whose text is not escaped, such as style. The text must be a constant of mxcert.
func raw(tag, content string) *element {
	n := &html.Node{Type: html.ElementNode, Data: tag}
	n.AppendChild(&html.Node{Type: html.TextNode, Data: content})
	return (*element)(n)
}

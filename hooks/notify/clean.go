package notify

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mxcert/acme/finding"
)

// The limits of a message, in bytes and in elements.
const (
	mostSubject = 300
	mostText    = 32 << 10
	mostWords   = 2000 // of a matter's text
	mostMatters = 100
	mostNames   = 200 // certificates of a matter
	mostName    = 100
)

// Clean returns a message that every channel can send: of limited size, valid UTF-8, with one line where there is one, and without
// characters that a terminal or a mail program obeys. Names of certificates and what servers say are foreign text, and the program that
// runs as root gets the whole message from the service.
func (m Message) Clean() Message {
	m.Version = 1
	m.Host = finding.Quote(m.Host, mostName)
	m.Event = Event(finding.Quote(string(m.Event), mostName))
	m.Subject = strings.TrimSpace(finding.Quote(m.Subject, mostSubject))
	m.Text = lines(m.Text, mostText)
	m.At = m.At.UTC()
	m.More = max(0, m.More) + max(0, len(m.Matters)-mostMatters)
	matters := make([]Matter, 0, min(len(m.Matters), mostMatters))
	for _, matter := range m.Matters[:min(len(m.Matters), mostMatters)] {
		matter.ID, matter.Severity = finding.Quote(matter.ID, mostName), finding.Quote(matter.Severity, mostName)
		matter.What, matter.Senders, matter.Next = lines(matter.What, mostWords), lines(matter.Senders, mostWords), lines(matter.Next, mostWords)
		matter.Since = matter.Since.UTC()
		names := slices.Clone(matter.Certificates[:min(len(matter.Certificates), mostNames)])
		for i, name := range names {
			names[i] = finding.Quote(name, mostName)
		}
		matter.Certificates = append([]string{}, names...)
		matters = append(matters, matter)
	}
	m.Matters = matters
	return m
}

// lines makes text of several lines safe, and cuts it.
func lines(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case r == '\r':
			return -1
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
	if len(text) <= most {
		return text
	}
	const ellipsis = "…"
	cut := most - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}

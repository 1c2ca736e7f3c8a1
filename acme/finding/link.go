package finding

import (
	"net/url"
	"strings"
)

// MostLink is the limit, in bytes, for a URL that is kept whole.
const MostLink = 1500

// QuoteLink is Quote for text in which a URL may be the way out of a failure: the first https URL stays whole, at the place of the
// cut or behind it, even if the text around it is cut. A URL of more than MostLink bytes counts as text.
func QuoteLink(text string, most int) string {
	short := Quote(text, most)
	link := Link(text)
	if link == "" || strings.Contains(short, link) {
		return short
	}
	whole := Quote(text, len(text))
	before, after, _ := strings.Cut(whole, link)
	if len(before) > most {
		return Quote(before, most) + " " + link
	}
	if after != "" {
		link += " …"
	}
	return before + link
}

// Link returns the first https URL in a text of others, without the punctuation of the sentence around it; "" if there is none, or
// if it has more than MostLink bytes.
func Link(text string) string {
	_, rest, found := strings.Cut(Quote(text, len(text)), "https://")
	if !found {
		return ""
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>`\\", r) })
	if end >= 0 {
		rest = rest[:end]
	}
	link := "https://" + strings.TrimRight(rest, ".,;:!?)]}'")
	if u, err := url.Parse(link); err != nil || u.Host == "" || u.User != nil || len(link) > MostLink {
		return ""
	}
	return link
}

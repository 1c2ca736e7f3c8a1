package transport

import (
	"net/http"
	"net/url"
	"strings"
)

// maxAlternates limits the links to other chains that are read; CAs offer two or three.
const maxAlternates = 8

// alternates reads the links to other chains (RFC 8555 section 7.4.2), at most maxAlternates.
func alternates(from *url.URL, header http.Header) (list []string) {
	for _, line := range header.Values("Link") {
		for line != "" && len(list) < maxAlternates {
			var target, relation string
			if target, relation, line = cutLink(line); !hasWord(relation, "alternate") {
				continue
			}
			if u, err := from.Parse(target); err == nil {
				list = append(list, u.String())
			}
		}
	}
	return list
}

func hasWord(list, word string) bool {
	for _, w := range strings.Fields(list) {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// cutLink reads the first link of a Link header: <target> and its parameters (RFC 8288 section 3). relation is the value of the first
// rel, with or without quotes; rest starts at the next link. Text that is not a link is skipped up to the next comma.
func cutLink(line string) (target, relation, rest string) {
	line = strings.TrimLeft(line, " \t,")
	if !strings.HasPrefix(line, "<") {
		_, rest, _ = strings.Cut(line, ",")
		return "", "", rest
	}
	target, rest, found := strings.Cut(line[1:], ">")
	if !found {
		return "", "", ""
	}
	seen := false
	for {
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, ";") {
			break
		}
		var name, value string
		name, value, rest = cutParameter(rest[1:])
		if strings.EqualFold(name, "rel") && !seen { // a second one does not count (section 3.3)
			relation, seen = value, true
		}
	}
	_, rest, _ = strings.Cut(rest, ",")
	return target, relation, rest
}

// cutParameter reads one parameter up to the semicolon or comma behind it. A value may be a token or a quoted string, in which either
// may occur; white space around the equals sign is allowed.
func cutParameter(text string) (name, value, rest string) {
	end := strings.IndexAny(text, "=;,")
	if end < 0 {
		return strings.TrimSpace(text), "", ""
	}
	name, rest = strings.TrimSpace(text[:end]), text[end:]
	if rest[0] != '=' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	if strings.HasPrefix(rest, `"`) {
		value, rest = cutQuoted(rest[1:])
		return name, value, rest
	}
	if end = strings.IndexAny(rest, ";,"); end < 0 {
		end = len(rest)
	}
	return name, strings.TrimSpace(rest[:end]), rest[end:]
}

// cutQuoted reads a quoted string behind its first quotation mark (RFC 9110 section 5.6.4).
func cutQuoted(text string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:]
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

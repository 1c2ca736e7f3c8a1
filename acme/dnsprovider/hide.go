package dnsprovider

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// shortest is the length of a value that is hidden wherever it stands. A shorter one is a part of too many words.
	shortest = 6
	// mostSearched is how much of a text is searched, in bytes, beside room for the longest value in its longest form, so that none is
	// cut. Only the first words of a text are shown.
	mostSearched = 16 << 10
	longestForm  = 6 // of one byte: \u0022
)

// hide replaces the values of the environment in a text by the names of the variables: some providers put their token into a URL, and a
// network error shows the URL; an API may give back the request as its error. So a value is found in each form that a request has:
// escaped for a URL, JSON or XML, also in part or twice, and in base64, alone or behind a user as in HTTP Basic.
func hide(text, provider string, env map[string]string) string {
	longestFirst := func(a, b string) int { return cmp.Or(len(env[b])-len(env[a]), strings.Compare(a, b)) }
	run := regexp.MustCompile(`(?:[A-Za-z0-9+/_-]|\\+/|%2[BbFf]){3,}=*`)
	names := slices.SortedFunc(maps.Keys(env), longestFirst)
	if len(names) > 0 {
		text = text[:min(len(text), mostSearched+longestForm*len(env[names[0]]))]
	}
	for _, name := range names {
		value := strings.TrimSpace(env[name])
		if !hideable(provider, name, value) {
			continue
		}
		form := anyForm(value)
		text = form.ReplaceAllLiteralString(text, "("+name+")")
		text = run.ReplaceAllStringFunc(text, func(found string) string {
			if inBase64(found, form, len(value) < shortest) {
				return "(" + name + ")"
			}
			return found
		})
	}
	return text
}

// hideable reports whether a value is hidden. Short values are often settings such as 1 or 120, so they need a reason.
func hideable(provider, name, value string) bool {
	switch {
	case namesPath(name) && strings.HasPrefix(value, "/"):
		return false // whoever reads of a file that cannot be opened has to know which
	case len(value) >= shortest:
		return true
	case len(value) >= 4:
		return Secret(provider, name)
	}
	return value != "" && soundsSecret(name)
}

// anyForm returns a pattern that finds a value however its characters are escaped, a short one as a whole word.
func anyForm(value string) *regexp.Regexp {
	var pattern strings.Builder
	for _, r := range value {
		pattern.WriteString(anyWriting(r))
	}
	if len(value) >= shortest {
		return regexp.MustCompile(pattern.String())
	}
	before, after := "", ""
	if first, _ := utf8.DecodeRuneInString(value); isWord(first) {
		before = `(?:\b|%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[nrt])` // an escaped character before the word looks like a part of it
	}
	if last, _ := utf8.DecodeLastRuneInString(value); isWord(last) {
		after = `\b`
	}
	return regexp.MustCompile(before + pattern.String() + after)
}

// isWord reports whether a character is one of a word in package regexp. Nobody escapes these.
func isWord(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// anyWriting returns a pattern for one character as it is, behind backslashes, and escaped for JSON, a URL or XML.
func anyWriting(r rune) string {
	if isWord(r) {
		return string(r)
	}
	code, percent := "", ""
	for _, unit := range utf16.AppendRune(nil, r) {
		code += fmt.Sprintf(`\\+u%04x`, unit)
	}
	for _, b := range []byte(string(r)) {
		percent += fmt.Sprintf(`%%(?:25)*%02x`, b)
	}
	forms := []string{`\\*` + regexp.QuoteMeta(string(r)), `(?i:` + code + `)`, `(?i:` + percent + `)`}
	switch r {
	case ' ':
		forms = append(forms, `\+`, `(?i:%(?:25)*2b)`)
	case '\n':
		forms = append(forms, `\\+n`)
	case '\r':
		forms = append(forms, `\\+r`)
	case '\t':
		forms = append(forms, `\\+t`)
	case '&', '<', '>', '"', '\'':
		forms = append(forms, `&#?[0-9a-zA-Z]+;`)
	}
	return "(?:" + strings.Join(forms, "|") + ")"
}

// inBase64 reports whether a text is base64 of something with the value in it. What is before it, such as a path, may look like base64
// too, so each of the four places where a group of letters can start is tried. A short value counts only in a text that can be printed,
// because it is found in some nonsense.
func inBase64(text string, value *regexp.Regexp, short bool) bool {
	text = strings.NewReplacer(`\`, "", "%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", "-", "+", "_", "/", "=", "").Replace(text)
	for start := range min(4, len(text)) {
		group := text[start:]
		if len(group)%4 == 1 {
			group = group[:len(group)-1]
		}
		decoded, err := base64.RawStdEncoding.DecodeString(group)
		if err != nil || !value.Match(decoded) {
			continue
		}
		if !short || utf8.Valid(decoded) && !strings.ContainsFunc(string(decoded), unicode.IsControl) {
			return true
		}
	}
	return false
}

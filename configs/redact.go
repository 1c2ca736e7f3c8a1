package configs

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// redacted returns a line of the file with what looks like the value of a secret replaced by asterisks of the
// same length, so that columns stay right. It works on text, because a file with a syntax error has no values yet. index.show
// also hides values that were decoded as literal secrets.
func (s *source) redacted(number int) string {
	line := s.lines[number-1]
	switch {
	case s.continuesSecret(number):
		return stars(line)
	case s.below(number, "webhook"):
		line = regexp.MustCompile(`\burl["']?[ \t]*:[ \t]*`).ReplaceAllString(line, "webhook url: ")
		return strings.Replace(redact(line), "webhook url: ", "url: ", 1)
	}
	return redact(line)
}

func redact(line string) string {
	line = regexp.MustCompile(`(?i)`+ageSecret+`[^\s"',\]}]*`).ReplaceAllStringFunc(line, stars) // wherever it stands
	var done strings.Builder
	keys := sensitive()
	for {
		m := keys.FindStringIndex(line)
		if m == nil {
			return done.String() + line
		}
		end := m[1] + secretLength(line[m[1]:])
		done.WriteString(line[:m[1]] + stars(line[m[1]:end]))
		line = line[end:]
	}
}

// secretLength returns how much of the text after a sensitive key must be hidden: the quoted part, nothing for a reference,
// otherwise all of it, because an unquoted value may contain any character.
func secretLength(value string) int {
	quoted := regexp.MustCompile(`^(?:"(?:[^"\\]|\\.)*"?|'[^']*'?)`).FindString(value)
	reference := strings.Trim(quoted, `"'`)
	if quoted == "" {
		reference, _, _ = strings.Cut(strings.NewReplacer(",", " ", "}", " ").Replace(value), " ")
	}
	switch {
	case isReference(reference):
		return 0
	case quoted != "":
		return len(quoted)
	}
	return len(value)
}

// sensitive matches a key that names a secret and what separates it from its value: keys like hmac_key, the upper-case variables of DNS
// providers, the key of a publisher, the identity of a host in a fleet, and the URL of a dead man's switch or, on one line, of a webhook.
func sensitive() *regexp.Regexp {
	const key = `(?:(?i:[\w-]*(?:hmac|secret|token|passw|api[_-]?key)[\w-]*)|\b[A-Z][A-Z0-9]*_[A-Z0-9_]*)`
	return regexp.MustCompile(key + `["']?[ \t]*[:= \t][ \t]*|\b(?:key|ping|identity|webhook[^#]*\burl)["']?[ \t]*:[ \t]*`)
}

// continuesSecret reports whether a line continues a secret that starts above it, with less indentation.
func (s *source) continuesSecret(number int) bool {
	depth := indentation(s.lines[number-1])
	if startsKey(s.lines[number-1]) {
		return false
	}
	for i := number - 2; i >= 0; i-- {
		if strings.TrimSpace(s.lines[i]) != "" && indentation(s.lines[i]) < depth {
			return sensitive().MatchString(s.lines[i])
		}
	}
	return false
}

// startsKey reports whether the line begins with a key and a colon.
func startsKey(line string) bool {
	line = strings.TrimLeft(line, " \t-\"'")
	rest := strings.TrimLeftFunc(line, func(r rune) bool { return r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) })
	return rest != line && strings.HasPrefix(strings.TrimLeft(rest, "\"' "), ":")
}

// below reports whether a line stands directly in the section of a key that has a line of its own.
func (s *source) below(number int, key string) bool {
	depth := indentation(s.lines[number-1])
	for i := number - 2; i >= 0; i-- {
		if above := s.lines[i]; strings.TrimSpace(above) != "" && indentation(above) < depth {
			return strings.HasPrefix(strings.TrimLeft(above, " \t-\"'"), key)
		}
	}
	return false
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

// hide replaces a secret in a line by asterisks.
func hide(line, secret string) string { return strings.ReplaceAll(line, secret, stars(secret)) }

// stars replaces every character that is not a space by an asterisk.
func stars(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return r
		}
		return '*'
	}, s)
}

// excerpt returns the part of a line around a column that a terminal can show, and the column there.
func excerpt(line string, col int) (text string, caret int) {
	const before, width = 60, 160
	runes := []rune(line)
	from := 0
	if len(runes) > width {
		from = max(0, min(col-1, len(runes))-before)
	}
	runes = runes[from:min(len(runes), from+width)]
	for i, r := range runes {
		if r != '\t' && !unicode.IsPrint(r) {
			runes[i] = utf8.RuneError
		}
	}
	return strings.TrimRight(string(runes), " \t"), col - from
}

package adopt

import "strings"

// parseINI reads lines NAME = VALUE as certbot writes and reads them (ConfigObj): quotes of either kind around a value are not a part of
// it, three quotes span lines, and what follows # is a comment. Only the lines before the first section and those of [renewalparams] count.
// certbot writes None for what is not set.
func parseINI(text string) map[string]string {
	settings, counts := map[string]string{}, true
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if strings.HasPrefix(line, "[") {
			counts = line == "[renewalparams]"
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || !counts || name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		for _, quote := range []string{`"""`, "'''"} {
			if !strings.HasPrefix(value, quote) {
				continue
			}
			for !strings.Contains(value[len(quote):], quote) && i+1 < len(lines) {
				i++
				value += "\n" + lines[i]
			}
		}
		if value = unquoteINI(value); value != "None" {
			settings[name] = value
		}
	}
	return settings
}

// unquoteINI takes quotes and comments off a value.
func unquoteINI(value string) string {
	for _, quote := range []string{`"""`, "'''", `"`, "'"} {
		if rest, ok := strings.CutPrefix(value, quote); ok {
			inner, _, closed := strings.Cut(rest, quote)
			if closed {
				return inner
			}
		}
	}
	value, _, _ = strings.Cut(value, "#")
	return strings.TrimSpace(value)
}

// readINI reads a file of certbot's.
func readINI(file string) (map[string]string, error) {
	text, err := readText(file)
	if err != nil {
		return nil, err
	}
	return parseINI(string(text)), nil
}

// parseShell reads assignments as a shell does, because acme.sh lets a shell read its files: a value may have parts in quotes of either
// kind, and quotes may span lines. It expands nothing. A value whose quote is never closed ends with its line.
func parseShell(text string) map[string]string {
	settings := map[string]string{}
	for text != "" {
		line := text
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			line = text[:end]
		}
		name, _, ok := strings.Cut(line, "=")
		name = strings.TrimPrefix(strings.TrimLeft(name, " \t"), "export ")
		if !ok || !isVariable(name) {
			text = afterLine(text)
			continue
		}
		_, value, _ := strings.Cut(text, "=")
		settings[name], text = shellWord(value)
		text = afterLine(text)
	}
	return settings
}

func afterLine(text string) string {
	_, rest, _ := strings.Cut(text, "\n")
	return rest
}

func isVariable(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// shellWord reads the word with which a text starts, and returns what follows.
func shellWord(text string) (word, rest string) {
	var w strings.Builder
	for text != "" && !strings.ContainsRune(" \t\r\n;", rune(text[0])) {
		switch c := text[0]; c {
		case '\'', '"':
			inner, after, closed := quotedPart(text[1:], c)
			if !closed {
				line, _, _ := strings.Cut(text[1:], "\n")
				w.WriteString(line)
				return w.String(), text[1+len(line):]
			}
			w.WriteString(inner)
			text = after
		case '\\':
			text = text[1:]
			if text != "" && text[0] != '\n' {
				w.WriteByte(text[0])
			}
			text = text[min(1, len(text)):]
		default:
			w.WriteByte(c)
			text = text[1:]
		}
	}
	return w.String(), text
}

// quotedPart reads up to the closing quote. Within double quotes a backslash protects the four characters that mean something there.
func quotedPart(text string, quote byte) (inner, rest string, closed bool) {
	var w strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == quote:
			return w.String(), text[i+1:], true
		case c == '\\' && quote == '"' && i+1 < len(text) && strings.IndexByte("\"\\$`", text[i+1]) >= 0:
			i++
			w.WriteByte(text[i])
		default:
			w.WriteByte(c)
		}
	}
	return "", "", false
}

// readShell reads a file of acme.sh's.
func readShell(file string) (map[string]string, error) {
	text, err := readText(file)
	if err != nil {
		return nil, err
	}
	return parseShell(string(text)), nil
}

package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// text decodes a string. An empty one keeps the default; a list must not have one.
func (l *loader) text(n *yaml.Node, path string, to *string, f field) {
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag != "!!str":
		l.wrongType(n, path, "must be text")
	case n.Value == "" && f.element:
		l.bad(path, "remove it", "is empty")
	case len(f.enum) > 0 && n.Value != "" && !slices.Contains(f.enum, n.Value):
		l.bad(path, suggest(n.Value, f.enum), "%s is not one of %s", quote(n.Value), strings.Join(f.enum, ", "))
	case n.Value != "":
		*to = n.Value
	}
}

// secret decodes a value that must not be shown. Numbers count as text, because most of these values are variables of
// DNS providers.
func (l *loader) secret(n *yaml.Node, path string, to *Secret) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		l.wrongType(n, path, "must be text")
		return
	}
	*to = Secret(n.Value)
	if !isReference(n.Value) && n.Value != "" {
		where := spot{l.src.name, n.Line} // not the line of an alias
		l.index.secrets[where] = append(l.index.secrets[where], n.Value)
	}
}

func (l *loader) boolean(n *yaml.Node, path string, to *bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
		*to = strings.EqualFold(n.Value, "true")
		return
	}
	l.wrongType(n, path, "must be true or false")
}

func (l *loader) integer(n *yaml.Node, path string, to *int) {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
		l.wrongType(n, path, "must be a plain number")
		return
	}
	*to = i
}

func (l *loader) duration(n *yaml.Node, path string, to *time.Duration, f field) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		l.wrongType(n, path, "must be a duration such as 90s")
		return
	}
	parse := parseDuration
	if f.zero {
		parse = parseDurationOrZero
	}
	d, err := parse(n.Value)
	if err != nil {
		l.bad(path, "write for example 90s, 5m, 1h30m or 2d", "%s is not a duration: %v", quote(n.Value), err)
		return
	}
	*to = d
}

// parseDuration reads a positive duration as time.ParseDuration does, with days ("d") in front.
func parseDuration(s string) (time.Duration, error) {
	d, err := parseDurationOrZero(s)
	if err == nil && d == 0 {
		return 0, errors.New("it must be more than zero")
	}
	return d, err
}

func parseDurationOrZero(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if number, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errors.New("days must be a whole number")
		}
		days, rest = time.Duration(n)*24*time.Hour, after
	}
	d := time.Duration(0)
	if rest != "" || s == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, errors.New("it needs a number and a unit")
		}
	}
	switch {
	case d < 0:
		return 0, errors.New("it must not be negative")
	case d > math.MaxInt64-days:
		return 0, errors.New("it is too long")
	}
	return d + days, nil
}

// mode decodes a file mode. YAML reads an unquoted 0640 as a number; mode takes its digits as they are written.
func (l *loader) mode(n *yaml.Node, path string, to *fs.FileMode) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!str" {
		l.wrongType(n, path, `must be four octal digits such as "0640"`)
		return
	}
	m, err := parseMode(n.Value)
	if err != nil {
		l.bad(path, `write four octal digits in quotes, such as "0640"`, "%s: %v", quote(n.Value), err)
		return
	}
	*to = m
}

// parseMode reads a file mode of the form 0640 or 0o640, and refuses one that does not suit a private key.
func parseMode(s string) (fs.FileMode, error) {
	digits, ok := strings.CutPrefix(s, "0")
	digits = strings.TrimPrefix(digits, "o")
	m, err := strconv.ParseUint(digits, 8, 16)
	switch {
	case !ok && isDigits(s) && len(s) == 3:
		return 0, fmt.Errorf("it is not clear whether this is octal; did you mean \"0%s\"?", s)
	case !ok && isDigits(s) && len(s) == 4 || ok && err == nil && m > 0o777:
		return 0, errors.New("setuid, setgid and sticky bits are not allowed")
	case !ok || err != nil || len(digits) != 3:
		return 0, errors.New("this is not a file mode")
	case m&0o007 != 0:
		return 0, errors.New("others would have access to the private key; the last digit must be 0")
	case m&0o111 != 0:
		return 0, errors.New("a certificate or key is not a program; execute bits are not allowed")
	case m&0o400 == 0:
		return 0, errors.New("the owner could not read the file; the second digit must be 4 or 6")
	}
	return fs.FileMode(m), nil
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// wrongType records that a value does not have the type that it must have.
func (l *loader) wrongType(n *yaml.Node, path, want string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		l.bad(path, "write a value or remove the line", "has no value")
		return
	}
	hint := ""
	switch {
	case want == "must be a list" && n.Kind == yaml.MappingNode:
		hint = "write - and a blank before the first key of each element"
	case n.Kind != yaml.ScalarNode:
	case want == "must be text" && n.Tag == "!!bool" && strings.HasSuffix(path, "dane.mode"):
		hint = `write mode: "off", in quotes: programs that know only YAML 1.1 write false instead`
	case want == "must be text":
		hint = "put it in quotes"
	case want == "must be a list":
		hint = "put it in brackets: [value]"
	case want == "must be true or false" && slices.Contains([]string{"yes", "on"}, strings.ToLower(n.Value)):
		hint = "write true, without quotes"
	case want == "must be true or false" && n.Tag == "!!str":
		hint = "write true or false, without quotes"
	}
	if path == "" {
		l.faultAt(n, path, "the file "+want+", not "+describe(n), hint)
		return
	}
	l.bad(path, hint, "%s, not %s", want, describe(n))
}

// describe names the type of a value for a reader who does not know YAML's names.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a section with keys"
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "a number"
	case n.Tag == "!!bool":
		return "true or false"
	case n.Tag == "!!timestamp":
		return "a date"
	}
	return "text"
}

// quote quotes foreign text for a message and shortens it.
func quote(s string) string { return `"` + printable(s) + `"` }

// printable replaces what a terminal would not show, and limits the length.
func printable(s string) string {
	const most = 60
	runes := []rune(s)
	if len(runes) > most {
		runes = append(runes[:most], '…')
	}
	q := fmt.Sprintf("%q", string(runes))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

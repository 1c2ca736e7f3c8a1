package mtasts

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mxcert/acme/finding"
)

// longest is the largest max_age (RFC 8461 section 3.2).
const longest = 31557600 * time.Second

var (
	// field is one line of a policy (RFC 8461 section 3.2); spaces after the value are no part of it.
	field = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*([^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*$`) //nolint:gochecknoglobals // a constant
	// pattern is a host, or a wildcard for exactly one label. Underscores are not in RFC 5321, but in names of MX hosts.
	pattern = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`) //nolint:gochecknoglobals // a constant
	seconds = regexp.MustCompile(`^[0-9]{1,10}$`)                                                                            //nolint:gochecknoglobals // a constant
)

// parse reads a policy (RFC 8461 section 3.2). The problem is "" if senders can use it. Notes are about what senders must ignore, or may not
// like.
func parse(text string) (p *Policy, notes []finding.Finding, problem string) {
	if !utf8.ValidString(text) {
		return nil, nil, "it is not UTF-8"
	}
	p = &Policy{}
	seen := map[string]bool{}
	empty := false
	for i, line := range strings.Split(strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.Trim(line, " \t") == "" {
			empty = true
			continue
		}
		m := field.FindStringSubmatch(line)
		if m == nil {
			return nil, notes, fmt.Sprintf("line %d is not KEY: VALUE: %s", i+1, finding.Quoted(line, 60))
		}
		key, value := m[1], m[2]
		if seen[key] && key != "mx" {
			notes = append(notes, finding.New("sts-policy-duplicate", finding.Warning, "line %d of the policy repeats %s: the first counts", i+1, key).Next("remove the other lines of "+key))
			continue
		}
		seen[key] = true
		if problem := p.set(key, value); problem != "" {
			return nil, notes, fmt.Sprintf("line %d: %s", i+1, problem)
		}
	}
	if empty {
		notes = append(notes, finding.New("sts-policy-empty-line", finding.Warning, "the policy has empty lines, which the grammar of RFC 8461 does not permit: some senders may refuse it").Next("remove the empty lines"))
	}
	for _, key := range []string{"version", "mode", "max_age"} {
		if !seen[key] {
			return nil, notes, "it has no " + key
		}
	}
	if len(p.MX) == 0 && p.Mode != None {
		return nil, notes, fmt.Sprintf("it has no mx, and its mode is %s", p.Mode)
	}
	return p, notes, ""
}

// set takes one key and value. It ignores unknown keys.
func (p *Policy) set(key, value string) (problem string) {
	quoted := finding.Quoted(value, 60)
	switch key {
	case "version":
		if value != "STSv1" {
			return "the version is " + quoted + ", not STSv1"
		}
	case "mode":
		if p.Mode = Mode(value); p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return "the mode is " + quoted + ", not enforce, testing or none"
		}
	case "max_age":
		n, err := strconv.ParseInt(value, 10, 64)
		p.MaxAge = time.Duration(min(n, 1<<33)) * time.Second
		if !seconds.MatchString(value) || err != nil || p.MaxAge > longest {
			return "max_age is " + quoted + ", not a number of seconds up to 31557600"
		}
	case "mx":
		return p.addPattern(value)
	}
	return ""
}

func (p *Policy) addPattern(value string) (problem string) {
	mx := strings.ToLower(value)
	quoted := finding.Quoted(value, 60)
	switch {
	case strings.ContainsFunc(mx, func(r rune) bool { return r >= utf8.RuneSelf }):
		return "mx is " + quoted + ", and not in ASCII: an internationalized name is written as A-label (xn--…)"
	case strings.HasSuffix(mx, "."):
		return "mx is " + quoted + ": a name ends without a dot here"
	case !pattern.MatchString(mx) || len(mx) > 255:
		return "mx is " + quoted + ", which is neither a host name nor a wildcard for one label"
	}
	if !slices.Contains(p.MX, mx) {
		p.MX = append(p.MX, mx)
	}
	return ""
}

// Permits reports whether a pattern of the policy matches an MX host (RFC 8461 section 4.1).
func (p *Policy) Permits(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(p.MX, func(mx string) bool {
		rest, wild := strings.CutPrefix(mx, "*.")
		return wild && parent != "" && !strings.HasPrefix(host, ".") && rest == parent || !wild && host != "" && mx == host
	})
}

// What max_age should not fall below: RFC 8461 section 3.2 expects weeks.
const (
	shortEnforced = 7 * 24 * time.Hour
	shortTested   = 24 * time.Hour
)

// advise returns what the owner of a policy should know although senders can use it.
func (p *Policy) advise() (notes []finding.Finding) {
	if least := map[Mode]time.Duration{Enforce: shortEnforced, Testing: shortTested}[p.Mode]; p.MaxAge < least {
		notes = append(notes, finding.New("sts-max-age-short", finding.Warning, "max_age is %d s: senders forget the policy so soon that an attacker need only wait", int64(p.MaxAge/time.Second)).
			Next("set max_age to weeks, e.g. 2419200 (RFC 8461 section 3.2)"))
	}
	if p.Mode == Testing {
		notes = append(notes, finding.New("sts-mode-testing", finding.Warning, "the policy's mode is testing: senders deliver to a host that fails, and only report it").
			Next("set the mode to enforce when the reports of senders (RFC 8460) show no failure, and change the id"))
	}
	return notes
}

package configs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

const (
	// mostPerRate bounds the number of a rate.
	mostPerRate = 1_000_000
	// longestRate bounds the time of a rate: mxcert remembers orders for a little longer.
	longestRate = 7 * 24 * time.Hour
	noLimit     = "none"
)

// limits decodes a budget: a section, or the word none.
func (l *loader) limits(n *yaml.Node, path string, to *Limits) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == noLimit:
		to.None = true
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value != "":
		l.bad(path, "write none, or for example {orders: 300/3h}", "%s is neither none nor a section", quote(n.Value))
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
	default:
		l.mapping(n, path, reflect.ValueOf(to).Elem())
	}
}

// rate decodes one part of a budget.
func (l *loader) rate(n *yaml.Node, path string, to *Rate) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		l.wrongType(n, path, "must be a rate such as 300/3h, or none")
		return
	}
	r, err := parseRate(n.Value)
	if err != nil {
		l.bad(path, "write for example 300/3h, 50/7d, or none", "%s: %v", quote(n.Value), err)
		return
	}
	*to = r
}

// parseRate reads a number, a slash and a duration, or none. A rate that is empty is not set.
func parseRate(s string) (Rate, error) {
	switch s {
	case "":
		return Rate{}, nil
	case noLimit:
		return Rate{None: true}, nil
	}
	number, duration, found := strings.Cut(s, "/")
	if !found {
		return Rate{}, errors.New("it needs a number, a slash and a duration")
	}
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 1 || n > mostPerRate {
		return Rate{}, fmt.Errorf("before the slash there must be a number from 1 to %d", mostPerRate)
	}
	per, err := parseDuration(strings.TrimSpace(duration))
	switch {
	case err != nil:
		return Rate{}, fmt.Errorf("after the slash there must be a duration: %v", err)
	case per < time.Second || per > longestRate:
		return Rate{}, errors.New("the duration must be from 1s to 7d")
	}
	return Rate{N: n, Per: per}, nil
}

// String writes the rate as in a file; "" if it is not set.
func (r Rate) String() string {
	switch {
	case r.None:
		return noLimit
	case r == Rate{}:
		return ""
	}
	return fmt.Sprintf("%d/%s", r.N, shortDuration(r.Per))
}

// checkLimits refuses a budget that would be for no CA.
func (l *loader) checkLimits(a *ACME) {
	if a.Limits != (Limits{}) && len(a.Directories) > 0 && !slices.ContainsFunc(a.Directories, func(d string) bool { return !isPublic(d) }) {
		l.bad("acme.limits", "remove it: it is for private CAs", "mxcert knows the limits of the CA in acme.directory, and keeps them")
	}
}

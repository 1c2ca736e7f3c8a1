package dnsprovider

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// Error is a failure of a provider.
type Error struct {
	Provider  string
	Op        string // "create", "remove" or "set up"
	What      string // zone, server or record concerned
	Reason    string
	ErrKind   string // "dns-update", "tsig", "dns-unreachable", "dns-config"
	NextStep  string
	temporary bool
	forgotten *TXT // see Forgotten
}

// Error says what failed.
func (e *Error) Error() string {
	return fmt.Sprintf("DNS provider %s: cannot %s %s: %s", e.Provider, e.Op, e.What, e.Reason)
}

// Kind is a stable word.
func (e *Error) Kind() string { return e.ErrKind }

// Hint says what to do.
func (e *Error) Hint() string { return e.NextStep }

// Temporary is true where trying again later may help.
func (e *Error) Temporary() bool { return e.temporary }

// UnknownError says that there is no provider of a name.
type UnknownError struct {
	Name    string
	Similar string // "" where nothing is close
}

// Error names the provider.
func (e *UnknownError) Error() string { return fmt.Sprintf("there is no DNS provider %q", e.Name) }

// Kind is "dns-config".
func (e *UnknownError) Kind() string { return "dns-config" }

// Hint suggests a name.
func (e *UnknownError) Hint() string {
	if e.Similar != "" {
		return fmt.Sprintf("did you mean %q? `mxcert providers` lists all", e.Similar)
	}
	return "`mxcert providers` lists all, `make full` builds mxcert with every provider of lego"
}

// Forgotten takes apart the error of a CleanUp. The records are those that the provider cannot remove, now or later,
// because only the process that made them knew how: they have to be removed by hand, as the error's hint says, and
// are best looked for in DNS. The rest of the error is about everything else, nil where that went well.
func Forgotten(err error) (records []TXT, rest error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // this is what a tree is walked by
		var others []error
		for _, e := range joined.Unwrap() {
			r, other := Forgotten(e)
			records, others = append(records, r...), append(others, other)
		}
		return records, errors.Join(others...)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.forgotten != nil {
		return []TXT{*e.forgotten}, nil
	}
	return nil, err
}

// forgotten is the error for a record that a new process cannot remove.
func forgotten(provider, reason string, r TXT) *Error {
	e := &Error{Provider: provider, Op: "remove", What: recordText(r), ErrKind: "dns-update", forgotten: &r, Reason: reason}
	e.NextStep = fmt.Sprintf("remove it by hand where the zone is kept: name %s, type TXT, value %q; mxcert warns until it is gone from DNS", trimDot(r.Name), r.Value)
	return e
}

// mostReason bounds the words of a provider or of a program in an error, in bytes.
const mostReason = 400

// capped makes foreign text fit for an error, without the secrets in it.
func capped(text string, env map[string]string) string {
	return finding.Quote(hide(text, env), mostReason)
}

// hide takes the values of the environment out of a text: some providers put their token into a URL, and a network error
// shows that.
func hide(text string, env map[string]string) string {
	for _, name := range slices.SortedFunc(maps.Keys(env), func(a, b string) int { return len(env[b]) - len(env[a]) }) {
		if value := env[name]; len(value) >= 6 {
			for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value)} {
				text = strings.ReplaceAll(text, form, "("+name+")")
			}
		}
	}
	return text
}

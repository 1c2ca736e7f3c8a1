package dnsprovider

import (
	"errors"
	"fmt"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// Error is a failure of a provider, or the name of one that does not exist.
type Error struct {
	Provider  string // "" if no account makes the records
	Zone      string // whose account it is; "" for the account of dns.provider
	Op        string // "create", "remove", "change" or "set up"; "" if there is no such provider
	What      string // the records or the variable concerned
	Reason    string
	ErrKind   string // "dns-update", "dns-condition", "tsig", "dns-unreachable" or "dns-config"
	NextStep  string
	temporary bool
	refused   bool // the server says that nothing was changed
	forgotten *TXT // see Forgotten
}

// Error says what failed.
func (e *Error) Error() string {
	switch {
	case e.Provider == "" && e.What != "":
		return fmt.Sprintf("no DNS account for %s: %s", e.What, e.Reason)
	case e.Op == "":
		return fmt.Sprintf("there is no DNS provider %q", e.Provider)
	}
	return fmt.Sprintf("DNS provider %s: cannot %s %s: %s", Account{Zone: e.Zone, Provider: e.Provider}, e.Op, e.What, e.Reason)
}

// Kind is a stable word: see ErrKind.
func (e *Error) Kind() string { return e.ErrKind }

// Stage is dns.
func (e *Error) Stage() string { return "dns" }

// Hint says what to do.
func (e *Error) Hint() string { return e.NextStep }

// Temporary reports whether trying again later may help.
func (e *Error) Temporary() bool { return e.temporary }

// Refused reports whether a name server has answered that it does not make the change, with a signature that proves the answer. A failure
// of another kind, such as a wrong key, says nothing about the names.
func Refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.refused
}

// unknown returns the error for a name that no provider has.
func unknown(name string) *Error {
	e := &Error{Provider: name, ErrKind: "dns-config"}
	e.NextStep = "`mxcert providers` lists those of this program; the package mxcert-full has all of lego"
	if known := similar(name); known != "" {
		e.NextStep = fmt.Sprintf("did you mean %q? `mxcert providers` lists all", known)
	}
	return e
}

// Forgotten splits the error of a CleanUp. records are those that the provider cannot remove, now or later, because only the
// process that created them knew how: a person has to remove them, as the error's hint says, and DNS shows whether they are
// still there. rest is the error about everything else; nil if that succeeded.
func Forgotten(err error) (records []TXT, rest error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // a tree of errors is walked this way
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

// forgotten returns the error for a record that a new process cannot remove.
func forgotten(provider, reason string, r TXT) *Error {
	e := &Error{Provider: provider, Op: "remove", What: recordText(r), ErrKind: "dns-update", forgotten: &r, Reason: reason}
	e.NextStep = fmt.Sprintf("remove it by hand from the zone: name %s, type TXT, value %q; mxcert warns until it is gone from DNS", resolve.PlainName(r.Name), r.Value)
	return e
}

const (
	// mostReason limits the text of a provider or of a program in an error, in bytes.
	mostReason = 400
	// mostBody limits what is shown of the body of an HTTP answer.
	mostBody = 120
)

// capped makes foreign text fit for an error, without the secrets in it. Of a body, which may be a whole page or the request, only the
// first words are left.
func capped(text, provider string, env map[string]string) string {
	const mark = "] body: " // of lego, behind the status
	text = hide(text, provider, env)
	if before, body, found := strings.Cut(text, mark); found {
		text = before + mark + finding.Quote(body, mostBody)
	}
	return finding.Quote(text, mostReason)
}

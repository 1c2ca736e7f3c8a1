package publish

import (
	"errors"
	"fmt"
	"strings"

	"mxcert/acme/finding"
)

// Error says why a service does not hold what was asked for. It contains no secret, and foreign text only quoted and cut.
type Error struct {
	service   string
	subject   string // the name, or the setting at fault
	reason    string
	kind      string
	hint      string
	temporary bool
	cause     error
}

// Error says what the failure is about, where, and why.
func (e *Error) Error() string {
	subject := finding.Quote(strings.TrimSuffix(e.subject, "."), 260)
	if e.service == "" {
		return fmt.Sprintf("%s: %s", subject, e.reason)
	}
	return fmt.Sprintf("TLSA records of %s: %s: %s", subject, e.service, e.reason)
}

// Unwrap returns the context's error if the context has ended.
func (e *Error) Unwrap() error { return e.cause }

// Kind is one of
//
//   - dns-config: a setting is wrong
//   - dns-unreachable: no answer, or none of the service
//   - dns-auth: the service does not know the key or token, or it may not do this
//   - dns-zone: the service does not have the zone, or cannot change it
//   - dns-unsigned: the service does not sign the zone
//   - dns-alias: the name is an alias
//   - dns-limit: too many requests
//   - dns-conflict: somebody else has changed the record set in the same moment, again and again
//   - dns-publish: the service has refused the change, or says that it has made it and does not hold it
func (e *Error) Kind() string { return e.kind }

// Stage is dns.
func (e *Error) Stage() string { return "dns" }

// Hint says what to do.
func (e *Error) Hint() string { return e.hint }

// Temporary reports whether the same change may succeed later.
func (e *Error) Temporary() bool { return e.temporary }

func configError(setting, reason, hint string) *Error {
	return &Error{subject: setting, kind: "dns-config", reason: reason, hint: hint}
}

// isConflict reports whether a service holds something else than what was read, so that it has to be read again.
func isConflict(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Kind() string
	}](err)
	return ok && (e.Kind() == "dns-conflict" || e.Kind() == "dns-condition")
}

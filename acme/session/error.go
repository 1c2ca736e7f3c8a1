package session

import (
	"cmp"
	"time"
)

// Error is a failure on the way from names to a certificate. It answers six questions, by methods that callers may also ask
// of the errors of other rooms:
//
//   - Stage() string: at which step? directory, account, order, authorization, dns, challenge, finalize, download, check,
//     renewal information, revoke, or preflight
//   - Kind() string: of what kind, as a stable word for programs? ca-unreachable, ca-error, ca-refused, rate-limited,
//     account, challenge, bad-certificate, clock, conflict, tls, internal, or the ID of a finding
//   - Hint() string: what can a person do?
//   - Temporary() bool: may the same attempt succeed later?
//   - Wait() time.Duration: how long did the CA ask to wait? 0 if it did not
//   - ChargedToCA() bool: does the CA count the failure against the account or the names?
//
// Error() says what failed, where, and why. [schedule.Held], "too early", is not an Error, because the CA was not asked.
type Error struct {
	At         string // answer to Stage
	ErrKind    string // answer to Kind
	Message    string
	NextStep   string        // answer to Hint; "" if the CA does something odd that mxcert cannot explain
	Passing    bool          // answer to Temporary
	RetryAfter time.Duration // answer to Wait
	Charged    bool          // answer to ChargedToCA
	Identifier string        // the name whose proof failed; "" for other failures
	Unproven   []string      // all names of the order whose proof failed, wildcards as in the order
	Unheard    []string      // those of Unproven about which the CA could not find out, such as when a name server did not answer it
	URL        string        // answer to Order; "" if there was no order yet
	Kept       bool          // the order was finalized and stays in flight: the next run resumes it
	Cause      error         // may be nil
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Order returns the URL of the order that failed, or "".
func (e *Error) Order() string { return e.URL }

// Stage returns the step that failed.
func (e *Error) Stage() string { return e.At }

// Kind returns a stable word.
func (e *Error) Kind() string { return e.ErrKind }

// Hint says what to do.
func (e *Error) Hint() string {
	return cmp.Or(e.NextStep, "the CA does not follow RFC 8555: check acme.directory, and look for a proxy in between; otherwise report it to the CA")
}

// Temporary reports whether trying again later may help.
func (e *Error) Temporary() bool { return e.Passing }

// Wait returns how long the CA asked to wait.
func (e *Error) Wait() time.Duration { return e.RetryAfter }

// ChargedToCA reports whether the failure counts against the CA's limits.
func (e *Error) ChargedToCA() bool { return e.Charged }

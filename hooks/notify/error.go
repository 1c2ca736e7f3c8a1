package notify

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// mostSaid limits quotations of what a server or a program says, in bytes.
const mostSaid = 300

// The kinds of an [Error].
const (
	Unreachable = "notify-unreachable" // no answer, or none in time
	Refused     = "notify-refused"     // the other side does not take the message
	Login       = "notify-login"       // it does not accept the password, or the URL
	Encryption  = "notify-encryption"  // the connection is not secret, or the certificate is wrong
	Program     = "notify-program"     // the program is missing, unsafe, or has failed
	Setting     = "notify-setting"     // a setting, a secret or a template cannot be used
)

// Error says why a message was not sent. It contains no secret.
type Error struct {
	message   string
	kind      string
	hint      string
	temporary bool
	partly    bool
	after     time.Duration
	cause     error // only a sentinel of the context or of the file system
}

// Error returns the message.
func (e *Error) Error() string { return e.message }

// Kind returns one of the constants of this package.
func (e *Error) Kind() string { return e.kind }

// Hint says what to do next.
func (e *Error) Hint() string { return e.hint }

// Temporary reports whether the same message may be sent later.
func (e *Error) Temporary() bool { return e.temporary }

// Partly reports whether some of several recipients have the message: to send it again would repeat it to them.
func (e *Error) Partly() bool { return e.partly }

// RetryAfter returns how long the other side wants to be left alone; 0 if it did not say. It is at most a day.
func (e *Error) RetryAfter() time.Duration { return e.after }

// Unwrap returns the cause; nil if it is not one that callers test for.
func (e *Error) Unwrap() error { return e.cause }

// reasonOf returns why there is no answer, without the URL that net/http puts into its errors, and without secrets.
func reasonOf(err error, secrets ...string) string {
	for {
		u, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = u.Err
	}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return "no answer in time"
	}
	return without(err.Error(), secrets...)
}

// without returns foreign text on one line of limited length, without the secrets that it may repeat.
func without(text string, secrets ...string) string {
	for _, secret := range secrets {
		if len(secret) > 2 {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	return finding.Quote(text, mostSaid)
}

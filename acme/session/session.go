// Package session is one conversation with a CA in the name of an account (RFC 8555 section 6): lego's core makes and signs
// the requests, an operation of the room transport sends them, and each failure becomes an [Error] that a person can act on.
//
// It replaces a refused nonce at once, and turns a panic in lego's parsers into an error. It repeats nothing else: the caller
// decides whether to try again. The package does not know orders and does not register accounts.
package session

import (
	"context"
	"errors"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/transport"
)

const (
	// nonceTries limits how often a refused nonce is replaced.
	nonceTries = 20
	// directoryRequests is the budget for reading the directory.
	directoryRequests = 5
)

// Session is one conversation with the CA.
type Session struct {
	*transport.Operation
	Core    *api.Core
	Account state.Account // its key signs; without a URL the request contains the key itself
}

// Begin opens a session in the name of an account, without asking the CA for the account. It fetches the directory, and may
// cost that many requests in all. Errors are *Error, or the context's. [transport.Operation.LeaveNonces] at its end makes
// the next session cheaper.
func Begin(ctx context.Context, pool *transport.Pool, account state.Account, requests int) (*Session, error) {
	key, err := bundle.ParseKey([]byte(account.Key))
	if err != nil {
		return nil, &Error{At: "account", ErrKind: "account", Message: "the stored account key cannot be used: " + err.Error(),
			NextStep: "restore the accounts directory below the state directory from a backup, or move it away to register again"}
	}
	s := &Session{Operation: pool.Begin(ctx, requests), Account: account}
	s.InheritNonces()
	client := s.Client()
	s.Core, err = Call(s, func() (*api.Core, error) {
		return api.New(client, s.Settings().UserAgent, s.Settings().OverTLS(), account.URL, key)
	})
	if err != nil {
		return nil, s.Explain("directory", err)
	}
	client.Transport = s.Operation // without lego's wrapper, which refuses plain HTTP even on loopback
	return s, nil
}

// Directory returns the CA's directory, from memory if it was fetched within the last hour. Errors are *Error, or the
// context's.
func Directory(ctx context.Context, pool *transport.Pool) (transport.Directory, error) {
	o := pool.Begin(ctx, directoryRequests)
	directory, err := o.Directory()
	return directory, Explain(o, "directory", err)
}

// Call runs one exchange of lego's core. It replaces a refused nonce at once, and turns a panic into an error.
func Call[T any](s *Session, f func() (T, error)) (result T, err error) {
	defer transport.Rescue(&err)
	for range nonceTries {
		result, err = f()
		problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
		if !ok || problem.Type != transport.BadNonce || s.Context().Err() != nil {
			break
		}
	}
	return result, err
}

// Explain turns an error of the core into an *Error of a stage, or into that of the context that has ended. An *Error stays
// as it is; nil stays nil.
func (s *Session) Explain(stage string, err error) error { return Explain(s.Operation, stage, err) }

package etcd

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"syscall"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mxcert/acme/state"
)

// cause is why the cluster did not do what it was asked.
type cause struct {
	text string
	hint string
	is   []error
}

// Error says it in one clause.
func (c *cause) Error() string { return c.text }

// Hint says what to do.
func (c *cause) Hint() string { return c.hint }

// Unwrap returns what a caller may test for.
func (c *cause) Unwrap() []error { return c.is }

// away reports whether an answer is none, or one that another member may not give.
func away(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	}
	return errors.Is(err, rpctypes.ErrNotLeader) || errors.Is(err, rpctypes.ErrTooManyRequests)
}

func code(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	return status.Code(err)
}

// explain says in the words of state what a call came to.
func (l *link) explain(ctx context.Context, endpoint string, err error) error {
	if err == nil {
		return nil
	}
	err = rpctypes.Error(err)
	where := endpoint
	if u, parseErr := url.Parse(endpoint); parseErr == nil {
		where = u.Host
	}
	switch {
	case l.ctx.Err() != nil:
		return &cause{text: "the store is closed", is: []error{fs.ErrClosed}}
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrUserNotFound):
		return &cause{text: "etcd permits it not to the user of this client certificate", is: []error{fs.ErrPermission}}
	case errors.Is(err, rpctypes.ErrNoSpace):
		return &cause{text: "etcd at " + where + " is full", is: []error{syscall.ENOSPC}}
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return &cause{text: "the lease has ended", is: []error{fs.ErrNotExist}}
	case errors.Is(ctx.Err(), context.Canceled):
		return &cause{text: "it was cancelled", is: []error{ctx.Err()}}
	}
	is := []error{state.ErrAway}
	if ctx.Err() != nil {
		is = append(is, ctx.Err())
	}
	return &cause{text: "etcd at " + where + ": " + plain(err), is: is}
}

func plain(err error) string {
	if s, ok := status.FromError(err); ok {
		return strings.TrimPrefix(s.Message(), "etcdserver: ")
	}
	return strings.TrimPrefix(err.Error(), "etcdserver: ")
}

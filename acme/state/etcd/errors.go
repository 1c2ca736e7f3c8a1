package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
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

// failure is what became of asking one member.
type failure struct {
	at  int
	err error
}

// noted adds a failure; the last one of a member counts.
func noted(list []failure, at int, err error) []failure {
	list = slices.DeleteFunc(list, func(f failure) bool { return f.at == at })
	return append(list, failure{at, rpctypes.Error(err)})
}

// explain says in the words of state what a call came to. The last failure decides.
func (l *link) explain(ctx context.Context, failures []failure) error {
	err := failures[len(failures)-1].err
	if known, ok := errors.AsType[*cause](err); ok {
		return known
	}
	switch {
	case l.ctx.Err() != nil:
		return &cause{text: "the store is closed", is: []error{fs.ErrClosed}}
	case errors.Is(ctx.Err(), context.Canceled):
		return &cause{text: "the call was cancelled", is: []error{ctx.Err()}}
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrUserNotFound),
		errors.Is(err, rpctypes.ErrRoleNotFound), errors.Is(err, rpctypes.ErrAuthFailed):
		return l.denied()
	case errors.Is(err, rpctypes.ErrNoSpace):
		return &cause{text: "the space quota of etcd is used up", is: []error{syscall.ENOSPC},
			hint: "compact and defragment etcd, or raise --quota-backend-bytes, then run: etcdctl alarm disarm"}
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return &cause{text: "the lease has ended", is: []error{fs.ErrNotExist}}
	case errors.Is(err, rpctypes.ErrCompacted):
		return errCompacted
	case tooLarge(err):
		return errLarge
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return &cause{text: "it is too much for one transaction of etcd",
			hint: "leave --max-request-bytes and --max-txn-ops of etcd at their defaults, or above"}
	case !away(err):
		return &cause{text: "etcd answers: " + plain(err), hint: "see the log of etcd"}
	}
	return l.unreachable(ctx, failures)
}

// errLarge is the cause if an answer has more bytes than were to be read of it. It was not read.
var errLarge = &cause{text: "the answer is too large: remove what is not mxcert's", is: []error{state.ErrDamaged}}

// tooLarge reports whether gRPC, not etcd, has refused an answer for its size.
func tooLarge(err error) bool {
	_, theirs := errors.AsType[rpctypes.EtcdError](err)
	return !theirs && code(err) == codes.ResourceExhausted
}

// denied says who lacks what.
func (l *link) denied() *cause {
	who, user, role := "the user of this host", "USER", "mxcert-"+path.Base(l.prefix)
	if name := l.user(); name != "" {
		who = fmt.Sprintf("the user %q (the common name of this host's client certificate)", name)
		if plainWord(name) {
			user = name
		}
	}
	return &cause{text: "etcd does not permit it to " + who, is: []error{fs.ErrPermission},
		hint: fmt.Sprintf("if fleet.name and fleet.etcd.certificate are right, do with the certificate of root what is missing of this: "+
			"etcdctl role add %[1]s; etcdctl role grant-permission %[1]s --prefix=true readwrite %[2]s; etcdctl user add %[3]s --no-password; "+
			"etcdctl user grant-role %[3]s %[1]s", role, l.prefix, user)}
}

// plainWord reports whether a name can be written into a command without quotes.
func plainWord(name string) bool {
	return strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-._") == "" && !strings.HasPrefix(name, "-")
}

// unreachable says of each member why it did not do it.
func (l *link) unreachable(ctx context.Context, failures []failure) *cause {
	c := &cause{is: []error{state.ErrAway}}
	if ctx.Err() != nil {
		c.is = append(c.is, ctx.Err())
	}
	var texts []string
	for _, f := range failures {
		text, hint := l.reason(f.err)
		if c.hint == "" {
			c.hint = hint
		}
		texts = append(texts, l.endpoints[f.at].address+" "+text)
	}
	c.text = "etcd cannot be asked: " + strings.Join(texts, "; ")
	return c
}

// plain is what a server says, in one line.
func plain(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	text = fmt.Sprintf("%.200q", strings.TrimPrefix(text, "etcdserver: "))
	return text[1 : len(text)-1]
}

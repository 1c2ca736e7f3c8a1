package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// kind says what may be done about a call that was not answered.
type kind bool

const (
	repeats kind = false // it may be made again: a read, or what makes no difference the second time
	changes kind = true  // it may have happened: only what was not sent, or was refused, is sent again
)

// pause is how long a call waits for an election, before it asks all members again.
const pause = 200 * time.Millisecond

// call makes a call of one member, and of the others if that one does not answer. It takes at most the patience. It returns a [*cause].
//
// A member without a leader refuses. Then the call waits for one. If all members are out of reach, it does not wait.
func (l *link) call(ctx context.Context, what kind, run func(context.Context, *clientv3.Client) error) error {
	within, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), l.patience)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	var failures []failure
	began := time.Now()
	for {
		leaderless := false
		for left := len(l.endpoints); left > 0; left-- {
			m := l.asked()
			sent, err := l.ask(within, &m, what, left, run)
			if err == nil {
				return nil
			}
			failures = noted(failures, m.at, err)
			refused := refusal(err)
			if away(err) && (ctx.Err() == nil || time.Since(began) > impatient) {
				l.leave(m)
			}
			if !away(err) || sent && !refused && what == changes || ctx.Err() != nil || l.ctx.Err() != nil {
				return l.explain(ctx, failures)
			}
			leaderless = leaderless || refused
		}
		if !leaderless || !sleep(within, pause+rand.N(pause)) {
			return l.explain(ctx, failures)
		}
	}
}

// impatient is how long a caller has to have waited for a member, if it waits no longer, for the member to be at fault.
const impatient = time.Second

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ask makes a call of a member: within its share of the time, if others can be asked the same. It may need a new connection.
func (l *link) ask(ctx context.Context, m *member, what kind, left int, run func(context.Context, *clientv3.Client) error) (sent bool, err error) {
	deadline, _ := ctx.Deadline()
	share, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
	defer cancel()
	if *m, err = l.ready(share, *m); err != nil {
		return false, err
	}
	if what == repeats {
		ctx = share
	}
	var mark atomic.Bool
	if err = run(context.WithValue(ctx, sentMark{}, &mark), m.Client); err != nil {
		err = l.dials.why(l.endpoints[m.at].address, err)
	}
	return mark.Load(), err
}

type (
	sentMark    struct{}
	largestMark struct{} // how many bytes the answer may have, if fewer than [largestAnswer]
)

// once makes a call fail if its connection breaks, instead of waiting for another one, and marks whether it may have reached the member. It notes
// the revision of the answer.
func (l *link) once(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	var to peer.Peer
	options = append(options, grpc.WaitForReady(false), grpc.Peer(&to))
	if largest, ok := ctx.Value(largestMark{}).(int); ok {
		options = append(options, grpc.MaxCallRecvMsgSize(largest))
	}
	err := invoke(ctx, method, request, reply, conn, options...)
	if mark, ok := ctx.Value(sentMark{}).(*atomic.Bool); ok && to.Addr != nil {
		mark.Store(true)
	}
	if answer, ok := reply.(interface {
		GetHeader() *etcdserverpb.ResponseHeader
	}); ok && err == nil {
		l.heard.Store(answer.GetHeader())
	}
	return err
}

// errSilent is what happens if a member does not even refuse.
var errSilent = errors.New("no answer")

// ready waits until there is a connection to a member, or an attempt to make one has failed.
func (l *link) ready(ctx context.Context, m member) (member, error) {
	state := m.ActiveConnection().GetState()
	if state == connectivity.Ready {
		return m, nil
	}
	if state == connectivity.TransientFailure {
		l.move(m, m.at)
		m = l.asked()
	}
	address := l.endpoints[m.at].address
	failed := l.dials.next(address)
	defer l.dials.forget(address, failed)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		conn := m.ActiveConnection()
		for ctx.Err() == nil {
			switch now := conn.GetState(); now {
			case connectivity.Ready, connectivity.Shutdown:
				return
			case connectivity.Idle:
				conn.Connect()
				fallthrough
			default:
				conn.WaitForStateChange(ctx, now)
			}
		}
	}()
	select {
	case err := <-failed:
		return m, err
	case <-connected:
		if ctx.Err() != nil {
			return m, errSilent
		}
		return m, nil
	}
}

// away reports whether an answer is none, or one that another member may not give.
func away(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || refusal(err) || errors.Is(err, rpctypes.ErrTooManyRequests) {
		return true
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown, codes.DataLoss, codes.Unimplemented:
		return true
	}
	return false
}

// refusal reports whether a member has not tried to do what it was asked, and soon may.
func refusal(err error) bool {
	return errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrNotLeader) || errors.Is(err, rpctypes.ErrAuthOldRevision) ||
		strings.Contains(err.Error(), "raft proposal dropped")
}

func code(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	return status.Code(err)
}

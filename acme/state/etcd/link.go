package etcd

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/grpclog"
)

// quiet keeps gRPC from writing to standard error: what it would say is in the errors of calls.
var quiet = sync.OnceFunc(func() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(nowhere{}, nowhere{}, nowhere{})) })

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// link is a connection to one member at a time. When a member does not answer, the next one is asked.
type link struct {
	client   *clientv3.Client
	dials    *dials
	prefix   string
	holder   string
	patience time.Duration
	lease    time.Duration

	mu        sync.Mutex
	endpoints []string
	at        int

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func connect(s Settings) (*link, error) {
	quiet()
	if err := check(s); err != nil {
		return nil, err
	}
	d := newDials()
	options := []grpc.DialOption{
		grpc.WithContextDialer(d.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 30 * time.Second},
			MinConnectTimeout: s.Patience,
		}),
	}
	if s.TLS != nil {
		options = append(options, grpc.WithTransportCredentials(d.credentials(s.TLS)))
	}
	at := start(s.Holder, len(s.Endpoints))
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{s.Endpoints[at]},
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: s.Patience,
		MaxUnaryRetries:      1,
		Logger:               zap.NewNop(),
		DialOptions:          options,
	})
	if err != nil {
		return nil, err
	}
	l := &link{client: client, dials: d, prefix: s.Prefix, holder: s.Holder, patience: s.Patience, lease: s.Lease, endpoints: s.Endpoints, at: at}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

func check(s Settings) error {
	if len(s.Endpoints) == 0 {
		return errors.New("there are no endpoints")
	}
	scheme := "https://"
	if s.TLS == nil {
		scheme = "http://"
	}
	for _, e := range s.Endpoints {
		if !strings.HasPrefix(e, scheme) {
			return fmt.Errorf("the endpoint %q does not begin with %s", e, scheme)
		}
	}
	return nil
}

// start spreads hosts over the members.
func start(holder string, members int) int {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(holder))
	return int(sum.Sum32() % uint32(members)) //nolint:gosec // a few members
}

func (l *link) shut() error {
	l.cancel()
	l.running.Wait()
	err := l.client.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// endpoint returns which member is asked now.
func (l *link) endpoint() (at int, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at, l.endpoints[l.at]
}

// leave asks the next member from now on, unless somebody else has left this one.
func (l *link) leave(at int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at != l.at || len(l.endpoints) == 1 {
		return
	}
	l.at = (at + 1) % len(l.endpoints)
	l.client.SetEndpoints(l.endpoints[l.at])
}

// kind says what may be done with a call that was not answered.
type kind bool

const (
	reads   kind = false // another member may be asked
	changes kind = true  // it may have happened: only what was not sent may be sent again
)

// call makes a call of a member, and of another one if that does not answer. It takes at most the patience.
func (l *link) call(ctx context.Context, what kind, run func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	deadline, _ := within.Deadline()
	var err error
	for left := len(l.endpoints); left > 0; left-- {
		share := time.Until(deadline) / time.Duration(left)
		at, name := l.endpoint()
		if err = l.ready(within, name, share); err == nil {
			sent := false
			sent, err = true, l.attempt(within, what, share, run)
			if err == nil || !away(err) {
				return l.explain(ctx, name, err)
			}
			if sent && what == changes {
				l.leave(at)
				return l.explain(ctx, name, err)
			}
		}
		err = l.explain(ctx, name, err)
		if ctx.Err() != nil || l.ctx.Err() != nil {
			return err
		}
		l.leave(at)
	}
	return err
}

func (l *link) attempt(ctx context.Context, what kind, share time.Duration, run func(context.Context) error) error {
	if what == reads {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return run(ctx)
}

// ready waits until there is a connection, or no hope for one.
func (l *link) ready(ctx context.Context, name string, share time.Duration) error {
	conn := l.client.ActiveConnection()
	if conn.GetState() == connectivity.Ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	failed := l.dials.next(strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://"))
	conn.ResetConnectBackoff()
	watching, done := context.WithCancel(ctx)
	defer done()
	changed := make(chan struct{}, 1)
	go func() {
		for watching.Err() == nil {
			state := conn.GetState()
			if state == connectivity.Idle {
				conn.Connect()
			}
			if state == connectivity.Ready || state == connectivity.Shutdown {
				changed <- struct{}{}
				return
			}
			conn.WaitForStateChange(watching, state)
		}
	}()
	select {
	case <-changed:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return errSilent
	}
}

// errSilent is what happens if a member does not even refuse.
var errSilent = errors.New("no answer")

package etcd

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/grpclog"
)

// gRPC writes nothing to standard error: what it would say is in the errors of calls. It reads its logger without a lock, so this is done before
// anything can use gRPC.
func init() { //nolint:gochecknoinits // see above
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(nowhere{}, nowhere{}, nowhere{}))
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// link is a connection to one member at a time. If a member does not answer, the next one is asked.
type link struct {
	config    clientv3.Config
	dials     *dials
	prefix    string
	holder    string
	patience  time.Duration
	lease     time.Duration
	proof     time.Duration
	endpoints []endpoint

	heard atomic.Pointer[etcdserverpb.ResponseHeader] // of the latest answer to a call

	mu     sync.Mutex
	at     int // which endpoint is asked
	client *clientv3.Client
	moved  chan struct{} // closed when the client is left
	ended  bool

	ctx     context.Context //nolint:containedctx // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// endpoint is where a member is: its URL, and host:port.
type endpoint struct{ url, address string }

// largestAnswer bounds what one answer may take of memory: 100 values of 1 MiB, and some more.
const largestAnswer = 128 << 20

func connect(s Settings) (*link, error) {
	endpoints, err := check(s)
	if err != nil {
		return nil, err
	}
	l := &link{dials: newDials(), prefix: s.Prefix, holder: s.Holder, patience: s.Patience, lease: s.Lease, proof: s.Proof,
		endpoints: endpoints, at: first(s.Holder, len(endpoints)), moved: make(chan struct{})}
	options := []grpc.DialOption{
		grpc.WithContextDialer(l.dials.dial),
		grpc.WithChainUnaryInterceptor(l.once),
		grpc.WithConnectParams(grpc.ConnectParams{ // for a connection that breaks and is not used; a call makes another one
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Minute},
			MinConnectTimeout: s.Patience,
		}),
	}
	if s.TLS != nil {
		options = append(options, grpc.WithTransportCredentials(l.dials.credentials(s.TLS)))
	}
	l.config = clientv3.Config{
		DialKeepAliveTime:    10 * time.Second, // etcd refuses more than one in 5 s
		DialKeepAliveTimeout: s.Patience,
		MaxUnaryRetries:      1,
		MaxCallSendMsgSize:   2 << 20,
		MaxCallRecvMsgSize:   largestAnswer,
		Logger:               zap.NewNop(),
		DialOptions:          options,
	}
	if l.client, err = l.dial(l.at); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// dial returns a client for a member. It connects when it is used.
func (l *link) dial(at int) (*clientv3.Client, error) {
	config := l.config
	config.Endpoints = []string{l.endpoints[at].url}
	return clientv3.New(config)
}

func check(s Settings) ([]endpoint, error) {
	if len(s.Endpoints) == 0 {
		return nil, errors.New("there are no endpoints")
	}
	scheme := "https"
	if s.TLS == nil {
		scheme = "http"
	}
	list := make([]endpoint, len(s.Endpoints))
	for i, text := range s.Endpoints {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != scheme || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("the endpoint %q is not %s://HOST:PORT", text, scheme)
		}
		if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
			return nil, fmt.Errorf("the endpoint %q has no port; that of etcd is 2379", text)
		}
		list[i] = endpoint{url: scheme + "://" + u.Host, address: u.Host}
	}
	return list, nil
}

// first spreads hosts over the members.
func first(holder string, members int) int {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(holder))
	return int(sum.Sum32() % uint32(members)) //nolint:gosec // a few members
}

// shut ends what runs, and the connection.
func (l *link) shut() error {
	l.mu.Lock()
	ended := l.ended
	l.ended = true
	l.mu.Unlock()
	if ended {
		return nil
	}
	l.cancel()
	l.running.Wait()
	if err := l.client.Close(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// run runs a function beside the caller. Shut waits for it; after that nothing is run.
func (l *link) run(task func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runLocked(task)
}

func (l *link) runLocked(task func()) bool {
	if !l.ended {
		l.running.Go(task)
	}
	return !l.ended
}

// member is one that is asked now.
type member struct {
	*clientv3.Client
	at    int
	moved <-chan struct{} // closed when it is left
}

// asked returns who is asked now.
func (l *link) asked() member {
	l.mu.Lock()
	defer l.mu.Unlock()
	return member{l.client, l.at, l.moved}
}

// leave asks the next member from now on, by a new connection, unless somebody else has left this one. Calls that are under way at the old one may
// end; watches move.
func (l *link) leave(m member) { l.move(m, (m.at+1)%len(l.endpoints)) }

// move leaves a member for another one, or for the same by a new connection. gRPC cannot be told to try again now: ResetConnectBackoff of v1.83
// reads a map without its lock.
func (l *link) move(m member, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Client != l.client {
		return
	}
	client, err := l.dial(to)
	if err != nil {
		return
	}
	if !l.runLocked(func() {
		sleep(l.ctx, l.patience)
		_ = m.Close() // nobody uses it any more
	}) {
		_ = client.Close() // the store is closed
		return
	}
	l.client, l.at = client, to
	close(l.moved)
	l.moved = make(chan struct{})
}

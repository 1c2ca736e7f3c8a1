package etcd

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

// Grant makes a lease. Its length is rounded up to seconds. etcd has a least length: one and a half times that of an election.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	lease, err := s.grant(ctx, ttl)
	return int64(lease), s.failed("make a lease below", "", err)
}

// Renew renews a lease.
func (s *Store) Renew(ctx context.Context, lease int64) error {
	return s.failed("renew a lease below", "", s.renew(ctx, clientv3.LeaseID(lease)))
}

// Lend gives a key a value until a lease ends. fs.ErrNotExist if it has ended.
func (s *Store) Lend(ctx context.Context, key string, value []byte, lease int64) error {
	return s.failed("write", key, s.put(ctx, key, value, clientv3.WithLease(clientv3.LeaseID(lease))))
}

// grant may make a lease more than needed, which ends by itself.
func (l *link) grant(ctx context.Context, ttl time.Duration) (lease clientv3.LeaseID, err error) {
	err = l.call(ctx, repeats, func(ctx context.Context, client *clientv3.Client) error {
		answer, err := client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
		if err == nil {
			lease = answer.ID
		}
		return err
	})
	return lease, err
}

// renew renews a lease once. It speaks to the service itself: the client's own call tries again without a pause while a member is away.
func (l *link) renew(ctx context.Context, lease clientv3.LeaseID) error {
	return l.call(ctx, repeats, func(ctx context.Context, client *clientv3.Client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err == nil && answer.TTL <= 0 {
			err = rpctypes.ErrLeaseNotFound
		}
		return rpctypes.Error(err)
	})
}

// patienceToRevoke is how long revoke keeps its caller. A release of a lock is never what a deployment waits for.
const patienceToRevoke = time.Second

// revoke ends a lease soon. If that fails, it ends by itself.
func (l *link) revoke(lease clientv3.LeaseID) {
	done := make(chan struct{})
	if !l.run(func() {
		defer close(done)
		_ = l.call(l.ctx, repeats, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Revoke(ctx, lease)
			return err
		})
	}) {
		return
	}
	sleepUntil(done, patienceToRevoke)
}

func sleepUntil(done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

// hold is a lock that is held: a key with a lease of its own.
type hold struct {
	store    *Store
	key      string // in etcd
	revision int64  // at which the key was made: the fence
	lease    clientv3.LeaseID
	stop     context.CancelFunc
	once     sync.Once
}

// note is the value of a lock's key, for people.
type note struct {
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"`
}

// Lock makes a key with a lease where no other key of the lock is.
func (s *Store) Lock(ctx context.Context, key string) (unlock func(), err error) {
	return s.lock(ctx, key, "alone", s.lockKeys(key))
}

// Share makes a key beside those of others who share.
func (s *Store) Share(ctx context.Context, key string) (release func(), err error) {
	return s.lock(ctx, key, "shared", s.lockKeys(key)+"alone")
}

// lockKeys returns what the keys of a lock begin with. No key of another lock does: an element is never empty.
func (s *Store) lockKeys(key string) string { return s.prefix + locks + key + "//" }

// lock takes a lock while no key begins with blockers.
func (s *Store) lock(ctx context.Context, key, how, blockers string) (func(), error) {
	if !valid(key) {
		return nil, s.failed("lock", key, fs.ErrInvalid)
	}
	first := ctx
	if ctx.Err() != nil {
		first = context.WithoutCancel(ctx)
	}
	for {
		h, seen, err := s.tryLock(first, s.lockKeys(key)+how, blockers)
		if err != nil {
			return nil, s.failed("lock", key, lockError(ctx, err))
		}
		if h != nil {
			return func() { h.once.Do(h.end) }, nil
		}
		if first = ctx; ctx.Err() == nil {
			err = s.freed(ctx, blockers, seen.revision)
		}
		if ctx.Err() != nil {
			return nil, s.failed("lock", key, fmt.Errorf("%w%s (%w)", state.ErrLocked, seen, ctx.Err()))
		}
		if err != nil {
			return nil, s.failed("lock", key, err)
		}
	}
}

// lockError makes the end of a context what Lock promises.
func lockError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w (%w)", state.ErrLocked, err)
	}
	return err
}

// seen is who holds a lock at a revision.
type seen struct {
	revision int64
	note
}

// String says it, to follow "another mxcert is at work".
func (s seen) String() string {
	if s.Holder == "" {
		return ""
	}
	return fmt.Sprintf(": %q since %s", s.Holder, s.Since.UTC().Format(time.RFC3339))
}

// tryLock takes the lock if it is free. Otherwise hold is nil and seen says who has it.
func (s *Store) tryLock(ctx context.Context, key, blockers string) (*hold, seen, error) {
	there, err := s.scan(ctx, blockers, after(blockers), 0, 1)
	if err != nil {
		return nil, seen{}, err
	}
	if len(there.Kvs) > 0 {
		return nil, look(there), nil
	}
	lease, err := s.grant(ctx, s.lease)
	if err != nil {
		return nil, seen{}, err
	}
	h := &hold{store: s, key: key + "-" + strconv.FormatInt(int64(lease), 16), lease: lease}
	value, _ := json.Marshal(note{Holder: s.holder, Since: time.Now().UTC().Truncate(time.Second)})
	var answer *clientv3.TxnResponse
	err = s.call(ctx, changes, func(ctx context.Context) (err error) {
		answer, err = s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(blockers).WithRange(after(blockers)), "=", 0)).
			Then(clientv3.OpPut(h.key, string(value), clientv3.WithLease(lease))).
			Else(clientv3.OpGet(blockers, clientv3.WithPrefix(), clientv3.WithLimit(1))).Commit()
		return err
	})
	if err != nil {
		s.revoke(lease)
		return nil, seen{}, err
	}
	if !answer.Succeeded {
		s.revoke(lease)
		return nil, look((*clientv3.GetResponse)(answer.Responses[0].GetResponseRange())), nil
	}
	h.revision = answer.Header.Revision
	s.keep(h)
	return h, seen{}, nil
}

func look(answer *clientv3.GetResponse) (by seen) {
	if len(answer.Kvs) > 0 {
		_ = json.Unmarshal(answer.Kvs[0].Value, &by.note)
	}
	if answer.Header != nil {
		by.revision = answer.Header.Revision
	}
	return by
}

// keep makes a lock part of the fence, and renews its lease until it ends.
func (s *Store) keep(h *hold) {
	var ctx context.Context
	ctx, h.stop = context.WithCancel(s.ctx)
	s.mu.Lock()
	s.held[h] = struct{}{}
	s.mu.Unlock()
	s.running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(s.lease / 3):
			}
			if errors.Is(s.renew(ctx, h.lease), fs.ErrNotExist) {
				return // the fence notices
			}
		}
	})
}

// end gives the lock back.
func (h *hold) end() {
	h.stop()
	h.store.mu.Lock()
	delete(h.store.held, h)
	h.store.mu.Unlock()
	h.store.revoke(h.lease)
}

// revoke ends a lease soon. If that fails, it ends by itself.
func (s *Store) revoke(lease clientv3.LeaseID) {
	done := make(chan struct{})
	s.running.Go(func() {
		defer close(done)
		_ = s.call(s.ctx, changes, func(ctx context.Context) error {
			_, err := s.client.Revoke(ctx, lease)
			return err
		})
	})
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

func (s *Store) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	var lease clientv3.LeaseID
	err := s.call(ctx, changes, func(ctx context.Context) error {
		answer, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
		if err == nil {
			lease = answer.ID
		}
		return err
	})
	return lease, err
}

// renew renews a lease once. It speaks to the service itself: the client's own call tries again without a pause while a member is away.
func (s *Store) renew(ctx context.Context, lease clientv3.LeaseID) error {
	return s.call(ctx, reads, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err == nil && answer.TTL <= 0 {
			err = errLeaseEnded
		}
		return err
	})
}

// freed waits until a key that begins with a prefix is removed after a revision.
func (s *Store) freed(ctx context.Context, prefix string, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	freed := false
	err := s.follow(ctx, prefix, after(prefix), revision, func(events []*clientv3.Event) {
		for _, e := range events {
			if e.Type == clientv3.EventTypeDelete {
				freed = true
				cancel()
			}
		}
	})
	if freed || errors.Is(err, state.ErrChanged) {
		return nil
	}
	return err
}

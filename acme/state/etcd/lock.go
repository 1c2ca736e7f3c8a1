package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

// hold is a lock that is held: a key with a lease of its own.
type hold struct {
	store    *Store
	name     string // of the lock, for people
	key      string // in etcd
	revision int64  // at which the key was made: the fence
	lease    clientv3.LeaseID
	stop     context.CancelFunc
	once     sync.Once
}

// claim is the value of a lock's key. It is for people.
type claim struct {
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"`
}

// Lock makes a key with a lease where the lock has no other key. Away from etcd it does not wait: the error is ErrAway.
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
	try, done := firstTry(ctx)
	defer done()
	for {
		h, by, err := s.tryLock(try, key, s.lockKeys(key)+how, blockers)
		if err != nil {
			return nil, s.failed("lock", key, lockError(ctx, err))
		}
		if h != nil {
			return func() { h.once.Do(h.end) }, nil
		}
		if try = ctx; ctx.Err() == nil {
			err = s.freed(ctx, blockers, by.revision)
		}
		if ctx.Err() != nil {
			return nil, s.failed("lock", key, fmt.Errorf("%w%s (%w)", state.ErrLocked, by, ctx.Err()))
		}
		if err != nil {
			return nil, s.failed("lock", key, err)
		}
		sleep(ctx, rand.N(20*time.Millisecond)) // many may wait: most of them then see that somebody was faster
	}
}

// grace is how long the first try of a lock may take at least, however soon its context ends.
const grace = time.Second

// firstTry returns the context of a first try: it is made also if ctx has ended, and a deadline that is near does not end it. To cancel ctx does.
func firstTry(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ctx.Err() == nil && (!ok || time.Until(deadline) > grace) {
		return ctx, func() {}
	}
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	if ctx.Err() != nil {
		return try, cancel
	}
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return try, func() {
		stop()
		cancel()
	}
}

// lockError makes the end of a context what Lock promises.
func lockError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w, or etcd does not answer: %w", state.ErrLocked, err)
	}
	return err
}

// blocker is who holds a lock at a revision.
type blocker struct {
	revision int64
	claim
}

// String says it, to follow "another mxcert is at work".
func (b blocker) String() string {
	if b.Holder == "" {
		return ""
	}
	return fmt.Sprintf(": %.100q, since %s", b.Holder, b.Since.UTC().Format(time.RFC3339))
}

func blockedBy(answer *clientv3.GetResponse, revision int64) (by blocker) {
	if len(answer.Kvs) > 0 {
		_ = json.Unmarshal(answer.Kvs[0].Value, &by.claim) // what is no claim has no name
	}
	by.revision = revision
	return by
}

// tryLock takes the lock if it is free. Otherwise the hold is nil.
func (s *Store) tryLock(ctx context.Context, name, key, blockers string) (*hold, blocker, error) {
	there, err := s.scan(ctx, blockers, after(blockers), 0, 1)
	if err != nil {
		return nil, blocker{}, err
	}
	if len(there.Kvs) > 0 {
		return nil, blockedBy(there, there.Header.Revision), nil
	}
	lease, err := s.grant(ctx, s.lease)
	if err != nil {
		return nil, blocker{}, err
	}
	h := &hold{store: s, name: name, key: key + "-" + strconv.FormatInt(int64(lease), 16), lease: lease}
	answer, err := s.claim(ctx, h, blockers)
	if err != nil {
		s.revoke(lease)
		return nil, blocker{}, err
	}
	if !answer.Succeeded {
		s.revoke(lease)
		return nil, blockedBy((*clientv3.GetResponse)(answer.Responses[0].GetResponseRange()), answer.Header.Revision), nil
	}
	h.revision = answer.Header.Revision
	if !s.keep(h) {
		s.revoke(lease)
		return nil, blocker{}, errClosed
	}
	return h, blocker{}, nil
}

// claim makes the key of a lock.
func (s *Store) claim(ctx context.Context, h *hold, blockers string) (answer *clientv3.TxnResponse, err error) {
	value, err := json.Marshal(claim{Holder: s.holder, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return nil, err
	}
	err = s.call(ctx, changes, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(blockers).WithRange(after(blockers)), "=", 0)).
			Then(clientv3.OpPut(h.key, string(value), clientv3.WithLease(h.lease))).
			Else(clientv3.OpGet(blockers, clientv3.WithPrefix(), clientv3.WithLimit(1))).Commit()
		return err
	})
	return answer, err
}

// keep makes a lock part of the fence, and renews its lease until it ends.
func (s *Store) keep(h *hold) bool {
	var ctx context.Context
	ctx, h.stop = context.WithCancel(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.run(func() { s.renewing(ctx, h.lease) }) {
		h.stop()
		return false
	}
	s.held[h] = struct{}{}
	return true
}

func (s *Store) renewing(ctx context.Context, lease clientv3.LeaseID) {
	for sleep(ctx, s.lease/3) {
		err := s.renew(ctx, lease)
		if errors.Is(err, fs.ErrNotExist) {
			return // lost: the fence refuses all changes
		}
	}
}

// end gives the lock back.
func (h *hold) end() {
	h.stop()
	h.store.mu.Lock()
	delete(h.store.held, h)
	h.store.mu.Unlock()
	h.store.revoke(h.lease)
}

// freed waits until a key that begins with a prefix is removed after a revision, or may have been.
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

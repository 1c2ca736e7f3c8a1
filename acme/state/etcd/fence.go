package etcd

import (
	"context"
	"fmt"
	"io/fs"

	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

var errClosed = &cause{text: "the store is closed", is: []error{fs.ErrClosed}}

// fence returns what is true as long as this holder has all its locks, and what shows which one is lost.
func (s *Store) fence() (ifs []clientv3.Cmp, looks []clientv3.Op, held []*hold, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, nil, errClosed
	}
	if s.unfenced {
		return nil, nil, nil, nil
	}
	for h := range s.held {
		held = append(held, h)
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(h.key), "=", h.revision))
		looks = append(looks, clientv3.OpGet(h.key, clientv3.WithKeysOnly()))
	}
	return ifs, looks, held, nil
}

// change does something in one transaction if all locks are held and the conditions are true; it returns the revision. ErrLocked: a lock is
// lost. ErrChanged: the conditions are not true.
func (s *Store) change(ctx context.Context, ifs []clientv3.Cmp, ops []clientv3.Op) (int64, error) {
	fence, looks, held, err := s.fence()
	if err != nil {
		return 0, err
	}
	var answer *clientv3.TxnResponse
	err = s.call(ctx, changes, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Txn(ctx).If(append(fence, ifs...)...).Then(ops...).Else(looks...).Commit()
		return err
	})
	if err != nil {
		return 0, err
	}
	if answer.Succeeded {
		return answer.Header.Revision, nil
	}
	for i, h := range held {
		if found := answer.Responses[i].GetResponseRange().Kvs; len(found) == 0 || found[0].CreateRevision != h.revision {
			return 0, &lost{h.name}
		}
	}
	return 0, state.ErrChanged
}

// lost is the cause if a lease has ended before its lock was given back.
type lost struct{ lock string }

// Error says which lock it was.
func (e *lost) Error() string {
	return fmt.Sprintf("this host was away from etcd for so long that it lost the lock %q", e.lock)
}

// Hint says what to do.
func (e *lost) Hint() string {
	return "nothing: what was about to be written is left to the host that holds the lock now"
}

// Is makes it ErrLocked.
func (e *lost) Is(target error) bool { return target == state.ErrLocked }

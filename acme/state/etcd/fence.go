package etcd

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

var errLeaseEnded = rpctypes.ErrLeaseNotFound

// fence returns what holds as long as this holder has all its locks, and what shows which one is lost.
func (s *Store) fence() (ifs []clientv3.Cmp, looks []clientv3.Op, held []*hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unfenced {
		return nil, nil, nil
	}
	for h := range s.held {
		held = append(held, h)
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(h.key), "=", h.revision))
		looks = append(looks, clientv3.OpGet(h.key, clientv3.WithKeysOnly()))
	}
	return ifs, looks, held
}

// change does something in one transaction if all locks are held and the conditions hold; it returns the revision. ErrLocked: a lock is lost.
// ErrChanged: the conditions do not hold.
func (s *Store) change(ctx context.Context, ifs []clientv3.Cmp, ops []clientv3.Op) (int64, error) {
	fence, looks, held := s.fence()
	var answer *clientv3.TxnResponse
	err := s.call(ctx, changes, func(ctx context.Context) (err error) {
		answer, err = s.client.Txn(ctx).If(append(fence, ifs...)...).Then(ops...).Else(looks...).Commit()
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
			return 0, fmt.Errorf("%w: the lock %s was lost, its lease has ended", state.ErrLocked, h.key)
		}
	}
	return 0, state.ErrChanged
}

package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"mxcert/acme/state"
)

// A key that no host has made is in the place of a lock: nobody orders, and each host says which key it is and what removes it, until it is gone.
func TestALockThatNobodyHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	admin, err := clientv3.New(clientv3.Config{Endpoints: w.cluster.Endpoints(), Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	const name = "mx.example"
	const key = "/mxcert/v1/berlin/.tmp-locks/lock/certificate/" + name + "//mine"
	_, err = admin.Put(t.Context(), key, `{"holder":"mx1"}`)
	must(t, err)
	says := []string{key, "no host orders " + name, "remove it: etcdctl del '" + key + "'"}

	a, b := w.host(0, "").run(), w.host(1, "")
	eventually(t, "the daemon says it", func() bool { return a.hasFault(says...) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = b.Lead(ctx, name, Danger{})
	refused, ok := errors.AsType[*Refused](err)
	if !errors.Is(err, state.ErrLocked) || !ok || refused.ID != NoLease || refused.Key != key || !strings.Contains(refused.Next, says[2]) {
		t.Errorf("the command: %v", err)
	}
	_, err = b.Overview(t.Context())
	must(t, err)
	if !b.hasFault(says...) {
		t.Errorf("who looks: %+v", b.Health())
	}

	const budgets = "/mxcert/v1/berlin/.tmp-locks/lock/usage//mine"
	_, err = admin.Put(t.Context(), budgets, "")
	must(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Store().Lock(ctx, usageLock); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), budgets) || !b.hasFault(budgets, "no host orders anything") {
		t.Errorf("the lock of the budgets: %v; %+v", err, b.Health())
	}

	for _, key := range []string{key, budgets} {
		_, err = admin.Delete(t.Context(), key)
		must(t, err)
	}
	b.leads1(name).Release()
	_, err = b.Overview(t.Context())
	must(t, err)
	if len(b.Health().Faults) > 0 {
		t.Errorf("it is gone: %+v", b.Health())
	}
	a.leads1(name).Release()
	must(t, a.lookAtLocks(t.Context())) // as it does each minute
	if len(a.Health().Faults) > 0 {
		t.Errorf("it is gone: %+v", a.Health())
	}
}

package etcd

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"mxcert/acme/state"
)

// Watch follows a folder. If a member stops, it goes on at another one. If none has answered for the patience, the error is ErrAway.
func (s *Store) Watch(ctx context.Context, folder string, revision int64, changed func([]state.Versioned)) error {
	if !validFolder(folder) {
		return s.failed("watch", folder, fs.ErrInvalid)
	}
	err := s.follow(ctx, s.below(folder), after(s.below(folder)), revision, func(events []*clientv3.Event) {
		var list []state.Versioned
		for _, e := range events {
			v := s.versioned(e.Kv)
			if e.Type == clientv3.EventTypeDelete {
				v.Value = nil
			}
			if valid(v.Key) {
				list = append(list, v)
			}
		}
		if len(list) > 0 {
			changed(list)
		}
	})
	return s.failed("watch", folder, err)
}

// watch is what one call of follow knows.
type watch struct {
	*link
	from, end string
	revision  int64     // up to which everything was seen
	cluster   uint64    // whose revision that is; 0: not known yet
	good      time.Time // when a member last answered
	handle    func([]*clientv3.Event)
}

// follow calls handle with what changes in a range after a revision, until ctx ends, changes are lost, or no member answers.
func (l *link) follow(ctx context.Context, from, end string, revision int64, handle func([]*clientv3.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	w := &watch{link: l, from: from, end: end, revision: revision, good: time.Now(), handle: handle}
	for {
		m := l.asked()
		err := w.stream(ctx, &m)
		failures := []failure{{m.at, rpctypes.Error(err)}}
		if known, ok := errors.AsType[*cause](err); ok {
			return known
		}
		if ctx.Err() != nil || !away(err) || time.Since(w.good) >= l.patience {
			return l.explain(ctx, failures)
		}
		l.leave(m)
		sleep(ctx, pause+rand.N(pause))
	}
}

// stream is a watch at one member. It ends when that is left, or does not begin within its share of the patience.
func (w *watch) stream(ctx context.Context, m *member) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	silent := time.AfterFunc(w.patience/time.Duration(len(w.endpoints)), cancel)
	defer silent.Stop()
	var err error
	if *m, err = w.ready(ctx, *m); err != nil {
		return err
	}
	moved := m.moved
	go func() {
		select {
		case <-moved:
			cancel()
		case <-ctx.Done():
		}
	}()
	stream, err := etcdserverpb.NewWatchClient(m.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(largestAnswer))
	if err != nil {
		return err
	}
	request := &etcdserverpb.WatchCreateRequest{Key: []byte(w.from), RangeEnd: []byte(w.end), StartRevision: w.revision + 1, ProgressNotify: true}
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: request}}); err != nil {
		return err
	}
	for opened := false; ; opened = true {
		answer, err := stream.Recv()
		if opened {
			w.good = time.Now() // until now, it was
		}
		if err != nil {
			return rpctypes.Error(err)
		}
		silent.Stop()
		if err := w.take(answer); err != nil {
			return err
		}
	}
}

// take handles an answer.
func (w *watch) take(answer *etcdserverpb.WatchResponse) error {
	switch {
	case answer.CompactRevision > 0:
		return errCompacted
	case answer.Canceled && strings.Contains(answer.CancelReason, "permission denied"):
		return rpctypes.ErrPermissionDenied
	case answer.Canceled:
		return errors.New(answer.CancelReason)
	case answer.Created && (answer.Header.Revision < w.revision || w.cluster != 0 && w.cluster != answer.Header.ClusterId):
		return errOlder
	case answer.Created:
		w.cluster = answer.Header.ClusterId
	case len(answer.Events) > 0:
		w.handle(answer.Events)
		w.revision = answer.Events[len(answer.Events)-1].Kv.ModRevision // that of the answer may be later than what it has
	default:
		w.revision = max(w.revision, answer.Header.Revision) // nothing has changed until then
	}
	return nil
}

var (
	errCompacted = &cause{text: "etcd has forgotten changes that were not seen yet", is: []error{state.ErrChanged}}
	errOlder     = &cause{text: "etcd has an older state than before: it was restored, or it is another one", is: []error{state.ErrChanged}}
)

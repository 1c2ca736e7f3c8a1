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

	"mxcert/acme/state"
)

// Watch follows a folder. It goes on at another member where one has stopped.
func (s *Store) Watch(ctx context.Context, folder string, revision int64, changed func([]state.Versioned)) error {
	if !validFolder(folder) {
		return s.failed("read", folder, fs.ErrInvalid)
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
	return s.failed("read", folder, err)
}

// follow calls handle with what changes in a range after a revision, until ctx ends, changes are lost, or no member answers.
func (l *link) follow(ctx context.Context, from, end string, revision int64, handle func(events []*clientv3.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	for {
		started := time.Now()
		at, name := l.endpoint()
		err := l.stream(ctx, from, end, &revision, handle)
		if ctx.Err() != nil {
			return l.explain(ctx, name, ctx.Err())
		}
		if known, ok := errors.AsType[*cause](err); ok {
			return known
		}
		if !away(err) {
			return l.explain(ctx, name, err)
		}
		l.leave(at)
		if time.Since(started) < time.Second { // the next one may be no better
			select {
			case <-ctx.Done():
			case <-time.After(time.Second/2 + rand.N(time.Second/2)):
			}
		}
	}
}

// stream is one connection of a watch.
func (l *link) stream(ctx context.Context, from, end string, revision *int64, handle func(events []*clientv3.Event)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	if err := l.call(ctx, reads, func(context.Context) error { return nil }); err != nil {
		return err
	}
	stream, err := etcdserverpb.NewWatchClient(l.client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{
		Key: []byte(from), RangeEnd: []byte(end), StartRevision: *revision + 1,
	}}}); err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		switch {
		case err != nil:
			return rpctypes.Error(err)
		case answer.CompactRevision > 0:
			return errCompacted
		case answer.Canceled && strings.Contains(answer.CancelReason, "permission denied"):
			return rpctypes.ErrPermissionDenied
		case answer.Canceled:
			return errors.New(answer.CancelReason)
		case len(answer.Events) > 0:
			events := make([]*clientv3.Event, len(answer.Events))
			for i, e := range answer.Events {
				events[i] = (*clientv3.Event)(e)
			}
			handle(events)
			*revision = events[len(events)-1].Kv.ModRevision // that of the answer may be later than what it holds
		}
	}
}

// errCompacted says that etcd has forgotten changes.
var errCompacted = &cause{text: "etcd has forgotten changes that were not seen yet", is: []error{state.ErrChanged}}

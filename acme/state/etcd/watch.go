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

// Watch follows a folder. If a member stops, falls silent or stays behind, it goes on at another one. If as many members as there are were asked, and
// none has answered for the patience, the error is ErrAway.
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
	revision  int64  // up to which everything was seen
	cluster   uint64 // whose revision that is; 0: not known yet
	silent    int    // how many streams in a row had no proof at all
	handle    func([]*clientv3.Event)
}

// follow calls handle with what changes in a range after a revision, until ctx ends, changes are lost, or no member answers.
func (l *link) follow(ctx context.Context, from, end string, revision int64, handle func([]*clientv3.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	w := &watch{link: l, from: from, end: end, revision: revision, handle: handle}
	good, tried := time.Now(), 0 // when a member last answered, and how many have failed since
	var failures []failure
	for {
		m := l.asked()
		p, err := w.stream(ctx, &m)
		if p.begun {
			good, tried, failures = time.Now(), 0, nil // until now, it was
		}
		w.count(p, err)
		tried, failures = tried+1, noted(failures, m.at, err)
		if known, ok := errors.AsType[*cause](err); ok {
			return known
		}
		if ctx.Err() != nil || !away(err) || tried >= len(l.endpoints) && time.Since(good) >= l.patience {
			return l.explain(ctx, failures)
		}
		l.leave(m)
		sleep(ctx, pause+rand.N(pause))
	}
}

// stream is a watch at one member. It ends when that is left, or does not prove in time that it tells everything.
func (w *watch) stream(ctx context.Context, m *member) (p *proof, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	share := w.patience / time.Duration(len(w.endpoints))
	silent := time.AfterFunc(share, cancel)
	defer silent.Stop()
	p = newProof(share, min(share<<min(w.silent, mostDoubled), w.proof), w.proof)
	defer p.timer.Stop()
	if *m, err = w.ready(ctx, *m); err != nil {
		return p, err
	}
	stream, err := etcdserverpb.NewWatchClient(m.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(largestAnswer))
	if err != nil {
		return p, err
	}
	request := &etcdserverpb.WatchCreateRequest{Key: []byte(w.from), RangeEnd: []byte(w.end), StartRevision: w.revision + 1, ProgressNotify: true}
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: request}}); err != nil {
		return p, err
	}
	silent.Stop() // the proof has the same end
	return p, w.listen(ctx, stream, m.moved, p)
}

// listen handles what a stream says. The next answer is read when the last one is handled: they can be large.
func (w *watch) listen(ctx context.Context, stream etcdserverpb.Watch_WatchClient, moved <-chan struct{}, p *proof) error {
	type said struct {
		answer *etcdserverpb.WatchResponse
		err    error
	}
	next := make(chan said, 1)
	receive := func() {
		answer, err := stream.Recv()
		next <- said{answer, err}
	}
	go receive()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
			return context.Canceled
		case <-p.timer.C:
			if err := w.prove(ctx, stream, p); err != nil {
				return err
			}
		case s := <-next:
			if s.err != nil {
				return rpctypes.Error(s.err)
			}
			if err := w.take(ctx, s.answer, p); err != nil {
				return err
			}
			go receive()
		}
	}
}

// take handles an answer.
func (w *watch) take(ctx context.Context, answer *etcdserverpb.WatchResponse, p *proof) error {
	switch {
	case answer.CompactRevision > 0:
		return errCompacted
	case answer.Canceled && strings.Contains(answer.CancelReason, "permission denied"):
		return rpctypes.ErrPermissionDenied
	case answer.Canceled:
		return errors.New(answer.CancelReason)
	case answer.Created:
		if err := w.sameAsBefore(ctx, answer.Header); err != nil {
			return err
		}
		w.cluster = answer.Header.ClusterId
		p.begin(max(w.revision, answer.Header.Revision, w.known(w.cluster)))
		p.told(w.revision)
	case len(answer.Events) > 0:
		w.handle(answer.Events)
		w.revision = answer.Events[len(answer.Events)-1].Kv.ModRevision // that of the answer may be later than what it has
		p.told(w.revision)
		p.alive()
	case answer.WatchId == clientv3.InvalidWatchID: // it was asked for; etcd 3.4 may say it before it has told the last changes
		p.told(answer.Header.Revision)
	default:
		w.revision = max(w.revision, answer.Header.Revision) // nothing has changed until then
		p.told(w.revision)
	}
	return nil
}

// sameAsBefore checks that a watch goes on in the cluster in which it began. A member may be a little behind; the quorum is not.
func (w *watch) sameAsBefore(ctx context.Context, header *etcdserverpb.ResponseHeader) error {
	if w.cluster != 0 && w.cluster != header.ClusterId {
		return errOlder
	}
	if header.Revision >= w.revision {
		return nil
	}
	latest, err := w.latest(ctx)
	if err != nil {
		return errSilent
	}
	if latest < w.revision {
		return errOlder
	}
	return nil
}

var (
	errCompacted = &cause{text: "etcd has forgotten changes that were not seen yet", is: []error{state.ErrChanged}}
	errOlder     = &cause{text: "etcd has an older state than before: it was restored, or it is another one", is: []error{state.ErrChanged}}
)

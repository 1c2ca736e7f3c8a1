package etcdtest

import (
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// watches are the watches of a member in this process.
type watches struct {
	filter atomic.Pointer[func(*etcdserverpb.WatchResponse) bool]
	begun  atomic.Int64
	asked  atomic.Int64
}

// FilterWatches decides from now on which answers of this member its watches get, also those that have begun. The filter may change an answer. Calls
// are answered as ever. nil: they get all of them.
func (m *Member) FilterWatches(filter func(*etcdserverpb.WatchResponse) bool) {
	m.cluster.t.Helper()
	if m.cluster.processes {
		m.cluster.t.Fatal("a member in another process has no filter")
	}
	if filter == nil {
		filter = func(*etcdserverpb.WatchResponse) bool { return true }
	}
	m.watches.filter.Store(&filter)
}

// Watches returns how many streams of watches have begun at this member so far, and how many requests they have sent.
func (m *Member) Watches() (begun, requests int64) {
	return m.watches.begun.Load(), m.watches.asked.Load()
}

// intercept is for each stream of a member.
func (w *watches) intercept(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == etcdserverpb.Watch_Watch_FullMethodName {
		w.begun.Add(1)
		stream = &watched{stream, w}
	}
	return handler(server, stream)
}

// watched is a stream of watches.
type watched struct {
	grpc.ServerStream
	*watches
}

// RecvMsg counts.
func (w *watched) RecvMsg(message any) error {
	err := w.ServerStream.RecvMsg(message)
	if err == nil {
		w.asked.Add(1)
	}
	return err
}

// SendMsg filters.
func (w *watched) SendMsg(message any) error {
	answer, ok := message.(*etcdserverpb.WatchResponse)
	if filter := w.filter.Load(); ok && filter != nil && !(*filter)(answer) {
		return nil
	}
	return w.ServerStream.SendMsg(message)
}

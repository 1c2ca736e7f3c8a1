package engine

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"mxcert/acme/state"
)

// late is a store of a fleet that is opened when it is first asked: what that takes on this host, such as the certificate of the CA, may be missing.
// Until it is there, each call fails with ErrAway and the reason, and tries again. A host whose files are not in order goes on as if etcd were down,
// and nobody has to start it again.
type late struct {
	open func() (state.Shared, error)

	mu     sync.Mutex
	opened state.Shared // nil until then
	closed bool
}

// store returns the store, opened.
func (l *late) store() (state.Shared, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errClosed()
	case l.opened != nil:
		return l.opened, nil
	}
	opened, err := l.open()
	if err != nil {
		return nil, state.Unasked(err)
	}
	l.opened = opened
	return opened, nil
}

// errClosed is the error of a store that was closed.
func errClosed() error { return fmt.Errorf("the store is closed: %w", fs.ErrClosed) }

// Close closes what was opened.
func (l *late) Close() error {
	l.mu.Lock()
	opened := l.opened
	l.closed = true
	l.mu.Unlock()
	if opened == nil {
		return nil
	}
	return opened.Close()
}

// Holder returns the same store for another holder of locks.
func (l *late) Holder() state.Shared {
	return &late{open: func() (state.Shared, error) {
		store, err := l.store()
		if err != nil {
			return nil, err
		}
		return store.Holder(), nil
	}}
}

// Path returns "": no value is a file.
func (l *late) Path(string) string { return "" }

// with asks the store.
func with[T any](l *late, ask func(state.Shared) (T, error)) (got T, err error) {
	store, err := l.store()
	if err != nil {
		return got, err
	}
	return ask(store)
}

// only asks the store for nothing but whether it was done.
func only(l *late, ask func(state.Shared) error) error {
	_, err := with(l, func(s state.Shared) (struct{}, error) { return struct{}{}, ask(s) })
	return err
}

func (l *late) Read(key string) ([]byte, error) {
	return with(l, func(s state.Shared) ([]byte, error) { return s.Read(key) })
}

func (l *late) Replace(key string, value []byte) error {
	return only(l, func(s state.Shared) error { return s.Replace(key, value) })
}

func (l *late) Remove(key string) error {
	return only(l, func(s state.Shared) error { return s.Remove(key) })
}

func (l *late) List(folder string) ([]string, error) {
	return with(l, func(s state.Shared) ([]string, error) { return s.List(folder) })
}

func (l *late) Rename(from, to string) error {
	return only(l, func(s state.Shared) error { return s.Rename(from, to) })
}

func (l *late) Lock(ctx context.Context, key string) (func(), error) {
	return with(l, func(s state.Shared) (func(), error) { return s.Lock(ctx, key) })
}

func (l *late) Share(ctx context.Context, key string) (func(), error) {
	return with(l, func(s state.Shared) (func(), error) { return s.Share(ctx, key) })
}

func (l *late) Get(ctx context.Context, key string) (state.Versioned, error) {
	return with(l, func(s state.Shared) (state.Versioned, error) { return s.Get(ctx, key) })
}

func (l *late) Many(ctx context.Context, keys []string) ([]state.Versioned, error) {
	return with(l, func(s state.Shared) ([]state.Versioned, error) { return s.Many(ctx, keys) })
}

func (l *late) Below(ctx context.Context, folder string) (values []state.Versioned, revision int64, err error) {
	err = only(l, func(s state.Shared) (err error) {
		values, revision, err = s.Below(ctx, folder)
		return err
	})
	return values, revision, err
}

func (l *late) Swap(ctx context.Context, key string, revision int64, value []byte) (int64, error) {
	return with(l, func(s state.Shared) (int64, error) { return s.Swap(ctx, key, revision, value) })
}

func (l *late) Watch(ctx context.Context, folder string, after int64, changed func([]state.Versioned)) error {
	return only(l, func(s state.Shared) error { return s.Watch(ctx, folder, after, changed) })
}

func (l *late) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	return with(l, func(s state.Shared) (int64, error) { return s.Grant(ctx, ttl) })
}

func (l *late) Renew(ctx context.Context, lease int64) error {
	return only(l, func(s state.Shared) error { return s.Renew(ctx, lease) })
}

func (l *late) Lend(ctx context.Context, key string, value []byte, lease int64) error {
	return only(l, func(s state.Shared) error { return s.Lend(ctx, key, value, lease) })
}

func (l *late) Strays(ctx context.Context) ([]state.Stray, error) {
	return with(l, func(s state.Shared) ([]state.Stray, error) { return s.Strays(ctx) })
}

func (l *late) Identity(ctx context.Context) (string, error) {
	return with(l, func(s state.Shared) (string, error) { return s.Identity(ctx) })
}

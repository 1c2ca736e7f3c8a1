package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/state"
)

// model is a store in memory that keeps what [state.Shared] promises: for tests with many faults, in the time of a bubble (testing/synctest).
type model struct {
	mu       sync.Mutex
	identity string
	revision int64
	keys     map[string]modelValue
	leases   map[int64]modelLease
	next     int64
	history  []state.Versioned
	oldest   int64 // changes up to it are forgotten
	changed  chan struct{}
	unfenced bool // a store without a fence, to show what it is for
	asked    int
}

type modelLease struct {
	ends time.Time
	ttl  time.Duration
}

type modelValue struct {
	value  []byte
	mod    int64
	made   int64
	lease  int64
	holder *modelStore // of a lock
}

func newModel() *model {
	return &model{identity: "c1", keys: map[string]modelValue{}, leases: map[int64]modelLease{}, changed: make(chan struct{})}
}

// wipe empties the store, as a new cluster does.
func (m *model) wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identity += "+"
	m.revision++
	m.keys, m.leases, m.history, m.oldest = map[string]modelValue{}, map[int64]modelLease{}, nil, m.revision
	m.wake()
}

// snapshot and restore bring back an old state, as a backup does: locks and leases are none.
func (m *model) snapshot() map[string]modelValue {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := map[string]modelValue{}
	for key, v := range m.keys {
		if v.lease == 0 {
			old[key] = v
		}
	}
	return old
}

func (m *model) restore(old map[string]modelValue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	m.keys, m.leases, m.history, m.oldest = map[string]modelValue{}, map[int64]modelLease{}, nil, m.revision
	for key, v := range old {
		m.keys[key] = v
	}
	m.wake()
}

// compact forgets all changes until now.
func (m *model) compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history, m.oldest = nil, m.revision
	m.wake()
}

func (m *model) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// expire removes what leases that have ended held. Called with the lock.
func (m *model) expire() {
	now := time.Now()
	for id, lease := range m.leases {
		if now.After(lease.ends) {
			m.end(id)
		}
	}
}

func (m *model) end(id int64) {
	delete(m.leases, id)
	for key, v := range m.keys {
		if v.lease == id && id != 0 {
			m.set(key, nil, 0, nil)
		}
	}
}

// set changes a key; nil removes it. Called with the lock.
func (m *model) set(key string, value []byte, lease int64, holder *modelStore) int64 {
	m.revision++
	if value == nil {
		delete(m.keys, key)
	} else {
		made := m.keys[key].made
		if made == 0 {
			made = m.revision
		}
		m.keys[key] = modelValue{slices.Clone(value), m.revision, made, lease, holder}
	}
	m.history = append(m.history, state.Versioned{Key: key, Value: slices.Clone(value), Revision: m.revision})
	m.wake()
	return m.revision
}

// modelStore is the model for one holder of locks.
type modelStore struct {
	*model
	held   map[string]int64 // the revision that made each lock
	leases []int64
}

func (m *model) open() *modelStore { return &modelStore{model: m, held: map[string]int64{}} }

var _ state.Shared = (*modelStore)(nil)

func (s *modelStore) failed(op, key string, err error) error {
	return &state.Error{Op: op, Path: "model:" + key, Err: err}
}

// change runs under the lock if the fence permits it.
func (s *modelStore) change(key string, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.expire()
	if !fs.ValidPath(key) {
		return s.failed("write", key, fs.ErrInvalid)
	}
	for lock, made := range s.held {
		if v := s.keys[lock]; v.made != made && !s.unfenced {
			return s.failed("write", key, fmt.Errorf("the lock %s was lost: %w", lock, state.ErrLocked))
		} else if v.lease != 0 && v.made == made {
			s.model.leases[v.lease] = modelLease{time.Now().Add(lockLease), lockLease} // the holder is alive
		}
	}
	if err := f(); err != nil {
		return s.failed("write", key, err)
	}
	return nil
}

func (s *modelStore) Get(_ context.Context, key string) (state.Versioned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.expire()
	v, ok := s.keys[key]
	if !ok {
		return state.Versioned{}, s.failed("read", key, fs.ErrNotExist)
	}
	return state.Versioned{Key: key, Value: slices.Clone(v.value), Revision: v.mod}, nil
}

func (s *modelStore) Read(key string) ([]byte, error) {
	v, err := s.Get(context.Background(), key)
	return v.Value, err
}

func (s *modelStore) Many(_ context.Context, keys []string) (list []state.Versioned, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.expire()
	for _, key := range keys {
		v := s.keys[key]
		list = append(list, state.Versioned{Key: key, Value: slices.Clone(v.value), Revision: v.mod})
	}
	return list, nil
}

func (s *modelStore) Below(_ context.Context, folder string) (list []state.Versioned, revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.expire()
	for key, v := range s.keys {
		if folder == "" || strings.HasPrefix(key, folder+"/") {
			list = append(list, state.Versioned{Key: key, Value: slices.Clone(v.value), Revision: v.mod})
		}
	}
	slices.SortFunc(list, func(a, b state.Versioned) int { return strings.Compare(a.Key, b.Key) })
	return list, s.revision, nil
}

func (s *modelStore) Swap(_ context.Context, key string, revision int64, value []byte) (now int64, err error) {
	err = s.change(key, func() error {
		if s.keys[key].mod != revision {
			return state.ErrChanged
		}
		now = s.set(key, append([]byte{}, value...), 0, nil)
		return nil
	})
	return now, err
}

func (s *modelStore) Watch(ctx context.Context, folder string, after int64, changed func([]state.Versioned)) error {
	for {
		s.mu.Lock()
		s.expire()
		if after < s.oldest {
			s.mu.Unlock()
			return s.failed("read", folder, state.ErrChanged)
		}
		var list []state.Versioned
		for _, v := range s.history {
			if v.Revision > after && strings.HasPrefix(v.Key, folder+"/") {
				list = append(list, v)
			}
		}
		after = max(after, s.revision)
		wait := s.changed
		s.mu.Unlock()
		if len(list) > 0 {
			changed(list)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait:
		}
	}
}

func (s *modelStore) Grant(_ context.Context, ttl time.Duration) (lease int64, err error) {
	err = s.change("lease", func() error {
		s.next++
		lease = s.next
		s.model.leases[lease] = modelLease{time.Now().Add(ttl), ttl}
		return nil
	})
	return lease, err
}

func (s *modelStore) Renew(_ context.Context, lease int64) error {
	return s.change("lease", func() error {
		l, ok := s.model.leases[lease]
		if !ok {
			return fs.ErrNotExist
		}
		s.model.leases[lease] = modelLease{time.Now().Add(l.ttl), l.ttl}
		return nil
	})
}

func (s *modelStore) Lend(_ context.Context, key string, value []byte, lease int64) error {
	return s.change(key, func() error {
		if _, ok := s.model.leases[lease]; !ok {
			return fs.ErrNotExist
		}
		s.set(key, value, lease, nil)
		return nil
	})
}

func (s *modelStore) Replace(key string, value []byte) error {
	return s.change(key, func() error {
		s.set(key, append([]byte{}, value...), 0, nil)
		return nil
	})
}

func (s *modelStore) Remove(key string) error {
	return s.change(key, func() error {
		for k := range s.keys {
			if k == key || strings.HasPrefix(k, key+"/") {
				s.set(k, nil, 0, nil)
			}
		}
		return nil
	})
}

func (s *modelStore) List(folder string) (names []string, err error) {
	values, _, _ := s.Below(context.Background(), folder)
	for _, v := range values {
		rest := strings.TrimPrefix(strings.TrimPrefix(v.Key, folder), "/")
		name, _, below := strings.Cut(rest, "/")
		if below {
			name += "/"
		}
		if !slices.Contains(names, name) && !strings.HasPrefix(name, ".tmp-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *modelStore) Rename(string, string) error { return errors.New("not in this model") }
func (s *modelStore) Path(string) string          { return "" }

func (s *modelStore) Identity(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity, nil
}

func (s *modelStore) Holder() state.Shared { return s.open() }

func (s *modelStore) Strays(context.Context) ([]state.Stray, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return nil, nil
}

// lockLease is how long a lock outlives a holder that is gone. The model renews it only when the holder is not stalled.
const lockLease = 30 * time.Second

func (s *modelStore) Lock(ctx context.Context, key string) (func(), error) {
	place := ".tmp-locks/" + key
	for {
		s.mu.Lock()
		s.asked++
		s.expire()
		if _, taken := s.keys[place]; !taken {
			s.next++
			lease := s.next
			s.model.leases[lease] = modelLease{time.Now().Add(lockLease), lockLease}
			s.held[place] = s.set(place, []byte("held"), lease, s)
			s.leases = append(s.leases, lease)
			s.mu.Unlock()
			return sync.OnceFunc(func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.held, place)
				s.end(lease)
			}), nil
		}
		wait := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, s.failed("lock", key, fmt.Errorf("%w (%w)", state.ErrLocked, ctx.Err()))
		case <-wait:
		case <-time.After(lockLease):
		}
	}
}

func (s *modelStore) Share(ctx context.Context, key string) (func(), error) { return s.Lock(ctx, key) }

func (s *modelStore) Close() error { return nil }

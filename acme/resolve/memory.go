package resolve

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// longestMemory limits how long an answer is used again, whatever its TTL: for one order, but not for the next.
	longestMemory = time.Minute
	// mostMemories limits how many answers are kept.
	mostMemories = 4096
	// mostBytes limits how large they are together, about: a hostile zone may answer each question with thousands of records.
	mostBytes = 8 << 20
)

// memory keeps answers about zones, servers and addresses, so that the many names of one order ask for them once. It never
// keeps what changes in the course of an order: the challenge's own names.
type memory struct {
	flights singleflight.Group

	mu      sync.Mutex
	entries map[string]memento
	bytes   int       // of all entries
	swept   time.Time // when those that are over were forgotten last
	locks   map[string]chan struct{}
}

type memento struct {
	value any
	until time.Time
}

func (m *memory) get(key string) (any, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	return e.value, ok && time.Now().Before(e.until)
}

func (m *memory) put(key string, value any, life time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(time.Now())
	weight := weigh(value)
	if m.entries == nil || len(m.entries) >= mostMemories || m.bytes+weight > mostBytes {
		m.entries, m.bytes = map[string]memento{}, 0
	}
	m.bytes += weight - weigh(m.entries[key].value)
	m.entries[key] = memento{value: value, until: time.Now().Add(min(life, longestMemory))}
}

// sweep forgets what is over, once in a while: resolvers of a daemon share a memory for as long as it runs.
func (m *memory) sweep(now time.Time) {
	if now.Sub(m.swept) < longestMemory {
		return
	}
	m.swept = now
	for key, e := range m.entries {
		if !now.Before(e.until) {
			m.bytes -= weigh(e.value)
			delete(m.entries, key)
		}
	}
}

// drop forgets an entry.
func (m *memory) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, known := m.entries[key]; known {
		m.bytes -= weigh(e.value)
		delete(m.entries, key)
	}
}

// weigh estimates the memory of a value.
func weigh(value any) (bytes int) {
	var sections [][]dns.RR
	switch value := value.(type) {
	case nil:
		return 0
	case Delegation:
		return 512 + 256*(len(value.Servers)+len(value.Differences)+len(value.Unknown))
	case looked:
		sections = [][]dns.RR{value.records}
	case *dns.Msg:
		sections = [][]dns.RR{value.Answer, value.Ns, value.Extra}
	}
	bytes = 512
	for _, section := range sections {
		for _, rr := range section {
			bytes += 128 + dns.Len(rr)
		}
	}
	return bytes
}

// lock waits until the lock of that name is free, or ctx ends.
func (m *memory) lock(ctx context.Context, name string) (unlock func(), err error) {
	m.mu.Lock()
	if m.locks == nil {
		m.locks = map[string]chan struct{}{}
	}
	if m.locks[name] == nil {
		m.locks[name] = make(chan struct{}, 1)
	}
	lock := m.locks[name]
	m.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// recall returns what is remembered under a key, or finds it. Callers that want it at the same time wait for one search. find
// returns how long its result holds, too.
func recall[T any](ctx context.Context, m *memory, key string, find func() (T, time.Duration, error)) (T, error) {
	var none T
	for {
		if value, ok := m.get(key); ok {
			return value.(T), nil
		}
		value, err, shared := m.flights.Do(key, func() (any, error) {
			value, life, err := find()
			if err == nil {
				m.put(key, value, life)
			}
			return value, err
		})
		switch {
		case err == nil:
			return value.(T), nil
		case endOf(ctx) != nil:
			return none, endOf(ctx)
		case shared && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
			// It was the search of another caller, whose context has ended.
		default:
			return none, err
		}
	}
}

// recallAsk is ask with a memory.
func (r *Resolver) recallAsk(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	key := "ask/" + dns.CanonicalName(name) + "/" + dns.TypeToString[qtype]
	return recall(ctx, &r.memory, key, func() (*dns.Msg, time.Duration, error) {
		answer, _, err := r.ask(ctx, name, qtype)
		if err != nil {
			return nil, 0, err
		}
		return answer, lifeOf(answer), nil
	})
}

// lifeOf returns the shortest TTL in an answer; the TTL of a negative answer is in its SOA (RFC 2308 section 5).
func lifeOf(answer *dns.Msg) time.Duration {
	life := longestMemory
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns} {
		for _, rr := range section {
			ttl := rr.Header().Ttl
			if soa, ok := rr.(*dns.SOA); ok && len(answer.Answer) == 0 {
				ttl = min(ttl, soa.Minttl)
			}
			life = min(life, time.Duration(ttl)*time.Second)
		}
	}
	return life
}

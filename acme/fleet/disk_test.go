package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"mxcert/acme/state"
)

// memoryDisk is a host's disk in memory: for tests with many processes that die.
type memoryDisk struct {
	mu    sync.Mutex
	files map[string][]byte
	locks map[string]bool
	freed chan struct{}
}

func newMemoryDisk() *memoryDisk {
	return &memoryDisk{files: map[string][]byte{}, locks: map[string]bool{}, freed: make(chan struct{})}
}

// process is the disk as one process has it: when it dies, nothing more happens, and its locks are free.
type process struct {
	*memoryDisk
	mu    sync.Mutex
	dead  bool
	count int
	ended func()
	dies  int // before that call; 0: it lives
	held  map[string]bool
}

var errDead = errors.New("this process is dead")

func (d *memoryDisk) process() *process { return &process{memoryDisk: d, held: map[string]bool{}} }

// die ends the process.
func (p *process) die() {
	p.mu.Lock()
	if p.ended != nil {
		p.ended()
	}
	p.dead = true
	held := p.held
	p.held = map[string]bool{}
	p.mu.Unlock()
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	for key := range held {
		delete(p.locks, key)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// step is each thing that a process does.
func (p *process) step() error {
	p.mu.Lock()
	p.count++
	now := p.dies != 0 && p.count >= p.dies && !p.dead
	dead := p.dead
	p.mu.Unlock()
	if now {
		p.die()
	}
	if now || dead {
		return errDead
	}
	return nil
}

func (p *process) failed(op, key string, err error) error {
	return &state.Error{Op: op, Path: "disk:" + key, Err: err}
}

func (p *process) Read(key string) ([]byte, error) {
	if err := p.step(); err != nil {
		return nil, p.failed("read", key, err)
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	v, ok := p.files[key]
	if !ok {
		return nil, p.failed("read", key, fs.ErrNotExist)
	}
	return slices.Clone(v), nil
}

func (p *process) Replace(key string, value []byte) error {
	if err := p.step(); err != nil {
		return p.failed("write", key, err)
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	p.files[key] = append([]byte{}, value...)
	return nil
}

func (p *process) Remove(key string) error {
	if err := p.step(); err != nil {
		return p.failed("remove", key, err)
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	for k := range p.files {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(p.files, k)
		}
	}
	return nil
}

func (p *process) List(folder string) (names []string, err error) {
	if err := p.step(); err != nil {
		return nil, p.failed("list", folder, err)
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	for k := range p.files {
		rest, ok := strings.CutPrefix(k, folder+"/")
		if folder == "" {
			rest, ok = k, true
		}
		if !ok {
			continue
		}
		name, _, below := strings.Cut(rest, "/")
		if below {
			name += "/"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (p *process) Rename(from, to string) error {
	if err := p.step(); err != nil {
		return p.failed("rename", from, err)
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	found := false
	for k, v := range p.files {
		if k == from || strings.HasPrefix(k, from+"/") {
			found = true
			delete(p.files, k)
			p.files[to+strings.TrimPrefix(k, from)] = v
		}
	}
	if !found {
		return p.failed("rename", from, fs.ErrNotExist)
	}
	return nil
}

func (p *process) Lock(ctx context.Context, key string) (func(), error) {
	for {
		if err := p.step(); err != nil {
			return nil, p.failed("lock", key, err)
		}
		p.memoryDisk.mu.Lock()
		if !p.locks[key] {
			p.locks[key] = true
			p.memoryDisk.mu.Unlock()
			p.mu.Lock()
			p.held[key] = true
			dead := p.dead
			p.mu.Unlock()
			if dead {
				p.unlock(key)
				return nil, p.failed("lock", key, errDead)
			}
			return sync.OnceFunc(func() { p.unlock(key) }), nil
		}
		wait := p.freed
		p.memoryDisk.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, p.failed("lock", key, fmt.Errorf("%w (%w)", state.ErrLocked, ctx.Err()))
		}
	}
}

func (p *process) unlock(key string) {
	p.mu.Lock()
	held := p.held[key]
	delete(p.held, key)
	p.mu.Unlock()
	if !held {
		return
	}
	p.memoryDisk.mu.Lock()
	defer p.memoryDisk.mu.Unlock()
	delete(p.locks, key)
	close(p.freed)
	p.freed = make(chan struct{})
}

func (p *process) Share(ctx context.Context, key string) (func(), error) { return p.Lock(ctx, key) }
func (p *process) Path(string) string                                    { return "" }

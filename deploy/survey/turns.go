package survey

import (
	"net/netip"
	"sync"
)

// Turns lets several looks at the same time share addresses: there is one connection at a time to each. The zero value is ready.
type Turns struct {
	mu  sync.Mutex
	all map[netip.Addr]chan struct{}
}

// of returns the channel that holds a token while somebody is connected to an address.
func (t *Turns) of(address netip.Addr) chan struct{} {
	if t == nil {
		return make(chan struct{}, 1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[netip.Addr]chan struct{}{}
	}
	turn := t.all[address]
	if turn == nil {
		turn = make(chan struct{}, 1)
		t.all[address] = turn
	}
	return turn
}

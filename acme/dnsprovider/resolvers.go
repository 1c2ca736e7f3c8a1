package dnsprovider

import (
	"context"
	"slices"
	"sync"

	"github.com/go-acme/lego/v4/challenge/dns01"
)

// resolvers decides which name servers lego's providers ask. lego keeps the name servers with which it finds zones, and the
// zones that it found, in package variables. Calls with the same servers run together; others wait until these are done.
type resolvers struct {
	use     func(servers []string) // called while no call is inside
	mu      sync.Mutex
	current []string // of the calls inside, or of the last that were
	inside  int
	waiting []*waiter
}

type waiter struct {
	servers []string
	in      chan struct{} // closed when it is inside
}

// legoResolvers guards lego's package variables.
var legoResolvers = &resolvers{use: useInLego} //nolint:gochecknoglobals // what it guards are globals of lego's

func useInLego(servers []string) {
	_ = dns01.AddRecursiveNameservers(servers)(nil) // it cannot fail
	dns01.ClearFqdnCache()
}

// enter waits until lego's providers ask the given servers. leave may be called from anywhere, once. The error is the
// context's.
func (r *resolvers) enter(ctx context.Context, servers []string) (leave func(), err error) {
	w := &waiter{servers: slices.Clone(servers), in: make(chan struct{})}
	r.mu.Lock()
	r.waiting = append(r.waiting, w)
	r.admit()
	r.mu.Unlock()
	select {
	case <-w.in:
		return r.leave, nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, w); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.inside-- // it was let in at the same moment
	}
	r.admit()
	return nil, ctx.Err()
}

func (r *resolvers) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.admit()
}

// admit lets in all calls that can run: if no call is inside, the first and all that want the same servers. A new call does not
// overtake those that wait.
func (r *resolvers) admit() {
	if len(r.waiting) == 0 {
		return
	}
	first := r.waiting[0].servers
	if r.inside > 0 && !slices.Equal(first, r.current) {
		return
	}
	if !slices.Equal(first, r.current) {
		r.current = first
		r.use(first)
	}
	r.waiting = slices.DeleteFunc(r.waiting, func(w *waiter) bool {
		if !slices.Equal(w.servers, first) {
			return false
		}
		r.inside++
		close(w.in)
		return true
	})
}

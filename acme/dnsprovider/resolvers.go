package dnsprovider

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/go-acme/lego/v4/challenge/dns01"
)

// resolvers decides how lego's providers look for zones. lego keeps the name servers with which it finds zones, and the
// zones that it found, in package variables, and reads from the environment whether it follows CNAME records. Calls that want the
// same run together; others wait until these are done.
type resolvers struct {
	use     func(lookup) // called while no call is inside
	mu      sync.Mutex
	current lookup // of the calls inside, or of the last that were
	inside  int
	waiting []*waiter
}

// lookup is how lego finds the zone of a challenge.
type lookup struct {
	servers []string
	follow  bool // CNAME records at the name of the challenge
}

func (l lookup) equal(other lookup) bool {
	return l.follow == other.follow && slices.Equal(l.servers, other.servers)
}

type waiter struct {
	lookup
	in chan struct{} // closed when it is inside
}

// legoResolvers guards lego's package variables.
var legoResolvers = &resolvers{use: useInLego} //nolint:gochecknoglobals // what it guards are globals of lego's

func useInLego(l lookup) {
	_ = dns01.AddRecursiveNameservers(l.servers)(nil) // it cannot fail
	_ = os.Setenv("LEGO_DISABLE_CNAME_SUPPORT", strconv.FormatBool(!l.follow))
	dns01.ClearFqdnCache()
}

// enter waits until lego's providers find zones in the given way. leave may be called from anywhere, once. The error is the
// context's.
func (r *resolvers) enter(ctx context.Context, l lookup) (leave func(), err error) {
	w := &waiter{lookup: lookup{servers: slices.Clone(l.servers), follow: l.follow}, in: make(chan struct{})}
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

// admit lets in all calls that can run: if no call is inside, the first and all that want the same. A new call does not
// overtake those that wait.
func (r *resolvers) admit() {
	if len(r.waiting) == 0 {
		return
	}
	first := r.waiting[0].lookup
	if r.inside > 0 && !first.equal(r.current) {
		return
	}
	if !first.equal(r.current) {
		r.current = first
		r.use(first)
	}
	r.waiting = slices.DeleteFunc(r.waiting, func(w *waiter) bool {
		if !w.equal(first) {
			return false
		}
		r.inside++
		close(w.in)
		return true
	})
}

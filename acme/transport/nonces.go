package transport

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Each signed request takes a nonce of its own, and its answer brings a new one (RFC 8555 section 6.5). So the number of
// nonces bounds the requests that can be under way at once, and fetching a nonce costs a request. lego's own store fetches
// one whenever it is empty: eight parallel challenges would cost seven requests that say nothing.
//
// The trade: an order of n names needs at least 2n+5 requests (newOrder, 2n, two looks, finalize, certificate), and may cost
// 2n+9, the directory included. That leaves four for nonces. They are fetched together, while the key is stored. The first
// order of a process also reads the directory, so it sends three requests at once. If the CA takes 40 ms to answer, ten
// names lose a tenth of a second against eight at once, and a hundred names, which no person waits for, two seconds. The
// nonces that an operation has left are kept for the next one at the same CA: from the third order on eight requests are
// sent at once, and no nonce is fetched.
const (
	firstNonces = 3
	// spare is how many requests an order may cost beyond those that it needs.
	spare = 4
	// mostNonces limits how many nonces are kept for later operations.
	mostNonces = 64
	// nonceLife is how long a nonce is kept. A nonce that has become too old does no harm: a refused nonce costs one
	// request, as fetching one does, and comes with a new one. The first request of an operation is sent alone and finds
	// that out for all.
	nonceLife = 5 * time.Minute
)

// nonceStore keeps the nonces that the operations at one CA have left.
type nonceStore struct {
	mu   sync.Mutex
	kept []keptNonce // oldest first
}

type keptNonce struct {
	value string
	from  time.Time
}

// take returns up to n nonces, the newest first.
func (s *nonceStore) take(n int) (nonces []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(nonces) < n && len(s.kept) > 0 {
		newest := s.kept[len(s.kept)-1]
		s.kept = s.kept[:len(s.kept)-1]
		if time.Since(newest.from) < nonceLife {
			nonces = append(nonces, newest.value)
		}
	}
	return nonces
}

func (s *nonceStore) put(nonces []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range nonces[:min(len(nonces), mostNonces-len(s.kept))] {
		s.kept = append(s.kept, keptNonce{value, time.Now()})
	}
}

// nonces are those of one operation.
type nonces struct {
	mu        sync.Mutex
	inherited []string // of earlier operations
	own       []string
}

func (n *nonces) pop() (nonce string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from := &n.inherited
	if len(*from) == 0 {
		from = &n.own
	}
	if last := len(*from) - 1; last >= 0 {
		nonce, *from = (*from)[last], (*from)[:last]
	}
	return nonce
}

// push adds the nonce of an answer. After a refusal the nonces of earlier operations count as too old.
func (n *nonces) push(nonce string, refused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if refused {
		n.inherited = nil
	}
	if IsBase64URL(nonce) { // others must be ignored (RFC 8555 section 6.5.1)
		n.own = append(n.own, nonce)
	}
}

func (n *nonces) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.inherited) + len(n.own)
}

// IsBase64URL reports whether text is not empty and consists of the characters of base64url, as nonces and tokens do (RFC
// 8555 sections 6.5.1 and 8.1).
func IsBase64URL(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && strings.Trim(text, alphabet) == ""
}

// InheritNonces takes over the nonces that earlier operations have left.
func (o *Operation) InheritNonces() { o.nonces.inherited = o.pool.kept.take(atOnce) }

// LeaveNonces keeps the operation's nonces for the next one.
func (o *Operation) LeaveNonces() {
	for nonce := o.nonces.pop(); nonce != ""; nonce = o.nonces.pop() {
		o.pool.kept.put([]string{nonce})
	}
}

// AtOnce returns how many requests of the operation are sent at once.
func (o *Operation) AtOnce() int {
	return min(max(firstNonces, o.nonces.count()), atOnce)
}

// FetchNonces fetches the nonces that an order of that many names lacks, as far as its budget allows, all at once, from the
// directory's newNonce. It fails only if there is no nonce at all afterwards.
func (o *Operation) FetchNonces(ctx context.Context, newNonce string, names int) error {
	missing := min(names, atOnce) - o.nonces.count()
	group, ctx := errgroup.WithContext(ctx)
	for range min(missing, spare-o.sent()) {
		group.Go(func() error { return o.fetchNonce(ctx, newNonce) })
	}
	err := group.Wait()
	if o.nonces.count() == 0 {
		return err
	}
	return nil
}

func (o *Operation) fetchNonce(ctx context.Context, newNonce string) (err error) {
	defer Rescue(&err)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, newNonce, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", o.pool.settings.UserAgent)
	response, err := o.send(request)
	if err == nil {
		o.nonces.push(response.Header.Get("Replay-Nonce"), false)
		err = response.Body.Close()
	}
	return err
}

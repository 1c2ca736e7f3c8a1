package acme

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Each signed request takes a nonce that no other has used, and its answer brings one (RFC 8555 section 6.5). So as many
// requests can be under way at once as nonces were fetched, by a request each, and lego's own store fetches one whenever
// it has none: eight challenges at once cost seven requests that say nothing.
//
// The trade: an order of n names cannot do without 2n+5 requests (newOrder, 2n, two looks, finalize, certificate), and is
// to cost 2n+9 at most, the directory included. So up to four are left for nonces. They are fetched together, while the key
// is stored. The first order of a process, which reads the directory, sends three requests at once: with a CA that takes
// 40 ms to answer, ten names lose a tenth of a second against eight at once, and a hundred names, for which nobody waits,
// two seconds. What an operation has left is kept for the next one at the same CA, so that from the third order on eight
// requests are sent at once, and no nonce is fetched.
const (
	firstNonces = 3
	// spare is what an order may cost beside what it cannot do without.
	spare = 4
	// mostNonces bounds what is kept for later operations.
	mostNonces = 64
	// nonceLife is how long a nonce is kept. That it may be too old by then does no harm: a refused nonce costs one
	// request, as fetching one does, and comes with a new one. The first request of an operation is sent alone and finds
	// that out for all.
	nonceLife = 5 * time.Minute
)

// nonceStore keeps what the operations at one CA have left.
type nonceStore struct {
	mu   sync.Mutex
	kept []keptNonce // oldest first
}

type keptNonce struct {
	value string
	from  time.Time
}

// take gives up to n nonces, the newest first.
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

// push takes the nonce of an answer. After one was refused, those of earlier operations are taken for too old.
func (n *nonces) push(nonce string, refused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if refused {
		n.inherited = nil
	}
	if nonce != "" && strings.Trim(nonce, tokenAlphabet) == "" { // others are to be ignored (RFC 8555 section 6.5.1)
		n.own = append(n.own, nonce)
	}
}

func (n *nonces) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.inherited) + len(n.own)
}

// atOnce is how many requests of the operation are sent at once.
func (o *operation) atOnce() int {
	return min(max(firstNonces, o.transport.nonces.count()), maxParallel)
}

// fetchNonces fetches what is missing for an order of so many names, as far as it may, all at once. It fails where there
// is none at all afterwards.
func (o *operation) fetchNonces(ctx context.Context, names int) error {
	missing := min(names, maxParallel) - o.transport.nonces.count()
	err := inParallel(ctx, min(missing, spare-o.transport.sent()), func(int) error { return o.fetchNonce(ctx) })
	if o.transport.nonces.count() == 0 {
		return err
	}
	return nil
}

func (o *operation) fetchNonce(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, o.core.GetDirectory().NewNonceURL, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", o.client.settings.UserAgent)
	response, err := o.transport.send(request)
	if err == nil {
		o.transport.nonces.push(response.Header.Get("Replay-Nonce"), false)
		err = response.Body.Close()
	}
	return err
}

// leave keeps the operation's nonces for the next one.
func (o *operation) leave() {
	for nonce := o.transport.nonces.pop(); nonce != ""; nonce = o.transport.nonces.pop() {
		o.client.nonces.put([]string{nonce})
	}
}

package ca

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// Endpoint is the kind of resource that a request was for; the names are those of RFC 8555 section 7.1 and RFC 9773.
type Endpoint string

// The endpoints that requests are counted by.
const (
	Directory   Endpoint = "directory"
	NewNonce    Endpoint = "newNonce"
	NewAccount  Endpoint = "newAccount"
	Account     Endpoint = "account"
	NewOrder    Endpoint = "newOrder"
	Order       Endpoint = "order"
	Authz       Endpoint = "authorization"
	Challenge   Endpoint = "challenge"
	Finalize    Endpoint = "finalize"
	Certificate Endpoint = "certificate"
	RenewalInfo Endpoint = "renewalInfo"
	RevokeCert  Endpoint = "revokeCert"
	KeyChange   Endpoint = "keyChange"
	Other       Endpoint = "other"
)

// EndpointOf returns the endpoint to which a request path of this CA belongs.
func EndpointOf(path string) Endpoint {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "dir":
		return Directory
	case "nonce-plz":
		return NewNonce
	case "sign-me-up":
		return NewAccount
	case "my-account", "list-orderz":
		return Account
	case "order-plz":
		return NewOrder
	case "my-order":
		return Order
	case "authZ":
		return Authz
	case "chalZ":
		return Challenge
	case "finalize-order":
		return Finalize
	case "certZ":
		return Certificate
	case "draft-ietf-acme-ari-03":
		return RenewalInfo
	case "revoke-cert":
		return RevokeCert
	case "rollover-account-key":
		return KeyChange
	}
	return Other
}

// Request is one request to the CA and the status of its answer (0 while it is not answered).
type Request struct {
	Time      time.Time
	Method    string
	Endpoint  Endpoint
	Path      string
	UserAgent string
	Status    int
}

// keptRequests limits the memory of a lab that runs for days; the counters continue.
const keptRequests = 10_000

// requestLog is the outermost handler, so that it also sees what a wrapped handler does.
type requestLog struct {
	next http.Handler

	mu     sync.Mutex
	kept   []*Request
	counts map[Endpoint]int
}

// ServeHTTP logs the request and passes it on.
func (l *requestLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := l.add(r)
	recorder := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() { // deferred, because a wrapped handler may end with http.ErrAbortHandler
		l.mu.Lock()
		defer l.mu.Unlock()
		entry.Status = recorder.status
	}()
	l.next.ServeHTTP(recorder, r)
}

func (l *requestLog) add(r *http.Request) *Request {
	entry := &Request{Time: time.Now(), Method: r.Method, Endpoint: EndpointOf(r.URL.Path), Path: r.URL.Path, UserAgent: r.UserAgent()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[Endpoint]int{}
	}
	l.counts[entry.Endpoint]++
	if len(l.kept) == keptRequests {
		l.kept = append(l.kept[:0], l.kept[keptRequests/2:]...)
	}
	l.kept = append(l.kept, entry)
	return entry
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Requests returns the latest requests (up to 10,000), oldest first.
func (c *CA) Requests() []Request {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	requests := make([]Request, len(c.requests.kept))
	for i, r := range c.requests.kept {
		requests[i] = *r
	}
	return requests
}

// Count returns how many requests the endpoints had, or all endpoints if none is named.
func (c *CA) Count(endpoints ...Endpoint) int {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	sum := 0
	if len(endpoints) == 0 {
		for _, n := range c.requests.counts {
			sum += n
		}
	}
	for _, e := range endpoints {
		sum += c.requests.counts[e]
	}
	return sum
}

// ResetRequests empties the log and the counters.
func (c *CA) ResetRequests() {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	c.requests.kept, c.requests.counts = nil, nil
}

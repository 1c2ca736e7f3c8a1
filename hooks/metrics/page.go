package metrics

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// mostScrapes limits how many requests for chosen metrics are answered at the same time.
const mostScrapes = 4

// page answers scrapes. It keeps the text of the last one until a number changes, so that a daemon at rest neither encodes the same numbers
// every fifteen seconds nor collects the garbage of that; its clients share the text. The text is that of the library. It is not compressed: that
// costs more than a scrape.
type page struct {
	source *Source
	encode http.Handler

	mu      sync.Mutex
	version uint64 // of the source when the answer was made; 0: there is no answer
	answer  *answer
}

func newPage(s *Source) *page {
	return &page{source: s, encode: promhttp.HandlerFor(s, promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes, DisableCompression: true})}
}

// ServeHTTP answers a scrape. Who chooses metrics (name[]=…) gets an answer of his own.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		p.encode.ServeHTTP(w, r)
		return
	}
	a := p.current()
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(a.Len()))
	w.WriteHeader(a.code)
	_, _ = w.Write(a.Bytes()) // to a client that may have left
}

// current returns an answer with the numbers of this moment.
func (p *page) current() *answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	version := p.source.Version()
	if p.answer != nil && p.version == version {
		return p.answer
	}
	a := &answer{header: http.Header{}, code: http.StatusOK}
	if p.answer != nil {
		a.Grow(p.answer.Len() + p.answer.Len()/16 + 1024)
		p.answer = nil // it may be collected while the new one is made
	}
	p.encode.ServeHTTP(a, &http.Request{Method: http.MethodGet, Header: http.Header{}}) // that asks for no other form than text
	p.version, p.answer = version, a
	return a
}

// answer takes down what a handler answers.
type answer struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (a *answer) Header() http.Header  { return a.header }
func (a *answer) WriteHeader(code int) { a.code = code }

package ca

import (
	"net/http"
	"slices"
	"sync/atomic"
)

// switchable is a handler whose wrapping can be changed while requests run.
type switchable struct {
	inner   http.Handler
	current atomic.Pointer[http.Handler]
}

func newSwitchable(inner http.Handler, wrap func(http.Handler) http.Handler) *switchable {
	s := &switchable{inner: inner}
	s.set(wrap)
	return s
}

func (s *switchable) set(wrap func(http.Handler) http.Handler) {
	handler := s.inner
	if wrap != nil {
		handler = wrap(s.inner)
	}
	s.current.Store(&handler)
}

// ServeHTTP passes the request to the handler that is set now.
func (s *switchable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.current.Load()).ServeHTTP(w, r)
}

// OutOfOrder is for Options.Wrap: requests to these endpoints are answered with 500.
func OutOfOrder(endpoints ...Endpoint) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slices.Contains(endpoints, EndpointOf(r.URL.Path)) {
				http.Error(w, "out of order", http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

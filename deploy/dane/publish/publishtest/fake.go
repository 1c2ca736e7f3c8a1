package publishtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"mxcert/acme/resolve"
)

// hosted is what the servers of hosted DNS have in common: one zone, one token, and rules of requests.
type hosted struct {
	t     *testing.T
	zone  string // without the final dot
	token string
	*httptest.Server

	mu       sync.Mutex
	requests []string // method and path
	before   func(w http.ResponseWriter, r *http.Request) (answered bool)
}

// start listens on loopback. The handler runs under the lock, one request after another.
func (h *hosted) start(handler func(w http.ResponseWriter, r *http.Request)) {
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.requests = append(h.requests, r.Method+" "+r.URL.RequestURI())
		if h.before != nil && h.before(w, r) {
			return
		}
		handler(w, r)
	}))
	h.t.Cleanup(h.Close)
}

// Address is where it listens.
func (h *hosted) Address() string { return h.Listener.Addr().String() }

// Before sets a function that may answer requests instead of the server. It runs under the server's lock.
func (h *hosted) Before(f func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = f
}

// Requests returns the method and address of each request.
func (h *hosted) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// decode reads the body strictly: JSON, of the right type, and no member that the format does not have.
func decode(r *http.Request, into any) error {
	if r.Header.Get("Content-Type") != "application/json" {
		return errors.New("the content type is not application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the document")
	}
	return nil
}

func reply(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document)
}

// canonical returns the value of a record as services write it.
func canonical(kind, value string) (string, error) {
	if kind != "TLSA" {
		return value, nil
	}
	r, err := resolve.ParseTLSA(value)
	if err != nil {
		return "", err
	}
	if r.MatchingType == 1 && len(r.Data) != 32 || r.MatchingType == 2 && len(r.Data) != 64 {
		return "", fmt.Errorf("the data of %s have the wrong length", r)
	}
	return r.String(), nil
}

// subnameOf returns what is before the zone in a fully qualified name.
func (h *hosted) subnameOf(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "."), h.zone), ".")
}

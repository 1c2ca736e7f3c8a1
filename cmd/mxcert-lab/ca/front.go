package ca

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
)

// maxRequest is more than any ACME request needs.
const maxRequest = 1 << 20

// front stands before Pebble and makes new orders predictable: Pebble draws a random profile for an order that does not name
// one, even a reuse of 0 % picks up an old authorization once in a hundred times, and one certificate in 256 cannot be
// replaced.
type front struct {
	pebble     http.Handler
	store      *db.MemoryStore
	neverReuse bool

	// newOrders is held exclusively while a new order is made with the old authorizations out of sight.
	newOrders sync.RWMutex

	mu      sync.Mutex
	orders  []*core.Order     // oldest first
	answers map[string]string // serial → renewal information that was set
}

func newFront(pebble http.Handler, store *db.MemoryStore, neverReuse bool) *front {
	return &front{pebble: pebble, store: store, neverReuse: neverReuse, answers: map[string]string{}}
}

// ServeHTTP passes everything on unchanged, except new orders and the renewal information of short-lived certificates.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil { // Pebble accepts only signed https URLs: set the header that a proxy in front of it would set
		r.Header.Set("X-Forwarded-Proto", "https")
	}
	switch EndpointOf(r.URL.Path) {
	case NewOrder:
		f.newOrder(w, r)
	case RenewalInfo:
		f.renewalInfo(w, r)
	default:
		f.newOrders.RLock()
		defer f.newOrders.RUnlock()
		f.pebble.ServeHTTP(w, r)
	}
}

func (f *front) newOrder(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "the request cannot be read", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	account, profile, replaces := readNewOrder(body)
	answer := &buffer{header: http.Header{}, status: http.StatusOK}
	f.newOrders.Lock()
	restore := func() {}
	if f.neverReuse {
		restore = f.hideAuthorizations(account)
	}
	if replaces != "" {
		f.notePredecessor(replaces)
	}
	f.pebble.ServeHTTP(answer, r)
	restore()
	f.newOrders.Unlock()
	if answer.status == http.StatusCreated {
		f.settle(answer, profile)
	}
	answer.sendTo(w)
}

// settle remembers the new order and gives it the default profile if the request named no profile.
func (f *front) settle(answer *buffer, profile string) {
	order := f.store.GetOrderByID(path.Base(answer.header.Get("Location")))
	if order == nil {
		return
	}
	f.mu.Lock()
	f.orders = append(f.orders, order)
	f.mu.Unlock()
	if profile != "" {
		return
	}
	order.Lock()
	order.Profile = DefaultProfile
	order.Unlock()
	var shown map[string]any
	if json.Unmarshal(answer.body.Bytes(), &shown) != nil {
		return
	}
	shown["profile"] = DefaultProfile
	if patched, err := json.MarshalIndent(shown, "", "   "); err == nil {
		answer.body.Reset()
		answer.body.Write(patched)
	}
}

// readNewOrder reads the account ID, the profile and the replaced certificate from a new-order request (RFC 8555 section 6.2
// and 7.4, RFC 9773 section 5). It leaves a value empty that it cannot read: Pebble will refuse the request.
func readNewOrder(body []byte) (account, profile, replaces string) {
	var jws struct{ Protected, Payload string }
	var protected struct{ Kid string }
	var payload struct{ Profile, Replaces string }
	if json.Unmarshal(body, &jws) != nil {
		return "", "", ""
	}
	decode(jws.Protected, &protected)
	decode(jws.Payload, &payload)
	return path.Base(protected.Kid), payload.Profile, payload.Replaces
}

func decode(part string, into any) {
	if raw, err := base64.RawURLEncoding.DecodeString(part); err == nil {
		_ = json.Unmarshal(raw, into)
	}
}

// hideAuthorizations makes the account's authorizations look as if they were for other names, until restore is called.
// The name is the only property on which no order's status depends.
func (f *front) hideAuthorizations(account string) (restore func()) {
	var hidden []*core.Authorization
	for _, order := range f.store.GetOrdersByAccountID(account) {
		order.RLock()
		hidden = append(hidden, order.AuthorizationObjects...)
		order.RUnlock()
	}
	const mark = "hidden."
	for _, authz := range hidden {
		authz.Lock()
		authz.Identifier.Value = mark + authz.Identifier.Value
		authz.Unlock()
	}
	return func() {
		for _, authz := range hidden {
			authz.Lock()
			authz.Identifier.Value = authz.Identifier.Value[len(mark):]
			authz.Unlock()
		}
	}
}

// notePredecessor tells Pebble which order issued the certificate that a new one replaces. Pebble looks for the serial as the
// request has it, and so never finds one whose first bit is set, because the request has a zero byte before it (RFC 9773
// section 4.1). And it makes its own notes only some time after it has shown an order as valid.
func (f *front) notePredecessor(certID string) {
	_, text, _ := strings.Cut(certID, ".")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return
	}
	serial := new(big.Int).SetBytes(raw)
	f.mu.Lock()
	defer f.mu.Unlock()
	var note *core.Order
	replaced := false
	for _, order := range f.orders {
		order.RLock()
		if c := order.CertificateObject; c != nil {
			replaced = replaced || order.Replaces == certID
			if c.Cert.SerialNumber.Cmp(serial) == 0 {
				note = &core.Order{ID: order.ID, AccountID: order.AccountID, Order: order.Order, CertificateObject: &core.Certificate{ID: hex.EncodeToString(raw)}}
			}
		}
		order.RUnlock()
	}
	if note != nil {
		note.IsReplaced = replaced
		_ = f.store.AddOrderByIssuedSerial(note) // fails only without a certificate
	}
}

// buffer holds an answer until all changes to it are made.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the answer's header.
func (b *buffer) Header() http.Header { return b.header }

// WriteHeader keeps the status.
func (b *buffer) WriteHeader(status int) { b.status = status }

// Write keeps a part of the body.
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

func (b *buffer) sendTo(w http.ResponseWriter) {
	for name, values := range b.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(b.body.Len()))
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body.Bytes())
}

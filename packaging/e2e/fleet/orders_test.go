package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// roots is the root of what the authority issues.
func (w *town) roots() string {
	w.t.Helper()
	client := &http.Client{Timeout: 30 * time.Second, Transport: w.orders.transport}
	answer, err := client.Get("https://127.0.0.1:15000/roots/0")
	w.check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	w.check(err)
	return string(text)
}

// An order is one of the authority's, as the requests for it show it.
type order struct {
	id                         string
	made, finalized, last, end time.Time // last: its last request; end: the answer with the certificate; zero if there was none
	hosts                      []string  // that worked at it
	serial                     string
	notAfter                   time.Time
}

// list are all orders, in their order.
func (r *recorder) list() []*order {
	r.mu.Lock()
	defer r.mu.Unlock()
	orders := map[string]*order{}
	var list []*order
	for _, q := range r.requests {
		if q.id == "" || q.what != "order-plz" && q.what != "my-order" && q.what != "finalize-order" && q.what != "certZ" {
			continue
		}
		o := orders[q.id]
		if o == nil {
			o = &order{id: q.id, made: q.at}
			orders[q.id] = o
			list = append(list, o)
		}
		if q.at.Before(o.made) {
			o.made = q.at
		}
		o.last = q.answered
		if !slices.Contains(o.hosts, q.from) {
			o.hosts = append(o.hosts, q.from)
		}
		if q.what == "finalize-order" && q.status < 300 && o.finalized.IsZero() {
			o.finalized = q.at
		}
		if q.serial != "" && o.end.IsZero() {
			o.serial, o.notAfter, o.end = q.serial, q.notAfter, q.answered
		}
	}
	slices.SortFunc(list, func(a, b *order) int { return a.made.Compare(b.made) })
	return list
}

// issued are the orders with a certificate, by the time when it was issued.
func (r *recorder) issued() (list []*order) {
	for _, o := range r.list() {
		if o.serial != "" {
			list = append(list, o)
		}
	}
	slices.SortStableFunc(list, func(a, b *order) int { return cmp.Or(a.notAfter.Compare(b.notAfter), a.end.Compare(b.end)) })
	return list
}

// rank is the place of a certificate among all that were issued.
func (r *recorder) rank(serial string) (int, bool) {
	for i, o := range r.issued() {
		if o.serial == serial {
			return i, true
		}
	}
	return 0, false
}

// record is what a TLSA record 3 1 1 says of a certificate that was issued; "none" if it was not.
func (r *recorder) record(serial string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.requests) - 1; i >= 0; i-- {
		if serial != "" && r.requests[i].serial == serial {
			return r.requests[i].record
		}
	}
	return "none"
}

// alone checks that there was never more than one live order. An order lives from its first request to its last. One that nobody finalized and
// that died with its host, before its URL was stored, is the duplicate that no lock can prevent: its number is returned.
func alone(list []*order) (lost int, err error) {
	var errs []error
	for i, a := range list {
		if a.finalized.IsZero() {
			lost++
		}
		for _, b := range list[i+1:] {
			if b.made.Before(a.last) {
				errs = append(errs, fmt.Errorf("order %s of %v (%s to %s) lived while %s of %v began at %s", a.id, a.hosts, clock(a.made), clock(a.last), b.id, b.hosts, clock(b.made)))
			}
		}
	}
	return lost, errors.Join(errs...)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

package fleet

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// fakeCA counts orders. Life is that of its certificates.
type fakeCA struct {
	t    testing.TB
	life time.Duration

	mu         sync.Mutex
	orders     map[string]*caOrder
	placed     int
	duplicates int // that could not be known: an answer was lost, the host was stopped or killed, or the store was emptied
	violations []string
}

type caOrder struct {
	url, name string
	key       string // of the certificate
	got       *bundle.Bundle
	live      bool // it is stored, and nobody has its certificate yet
	stale     bool // placed by a host that did not lead any more
}

func (ca *fakeCA) violated(format string, args ...any) {
	ca.violations = append(ca.violations, fmt.Sprintf(format, args...))
}

// order places an order. leads says that the host's right to order was not lost at this moment.
func (ca *fakeCA) order(name, host string, leads bool) *caOrder {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for _, o := range ca.orders {
		if o.name == name && o.live && leads {
			ca.violated("%s places an order for %s while %s is live", host, name, o.url)
		}
	}
	ca.placed++
	o := &caOrder{url: fmt.Sprintf("https://ca.example/order/%d", ca.placed), name: name, stale: !leads}
	if o.stale {
		ca.duplicates++
	}
	ca.orders[o.url] = o
	return o
}

// stored says whether the order was handed to the fleet.
func (ca *fakeCA) stored(o *caOrder, err error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	switch {
	case err != nil && !o.stale:
		ca.duplicates++ // perhaps: another host may place one
	case err == nil && o.stale:
		ca.violated("the order %s of a host that did not lead any more was stored", o.url)
	case err == nil:
		o.live = true
	}
}

// lostAll says that the store has lost all orders.
func (ca *fakeCA) lostAll() {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for _, o := range ca.orders {
		if o.live {
			o.live = false
			ca.duplicates++
		}
	}
}

var errInvalidOrder = errors.New("the CA does not know this order")

// finish finalizes an order and returns its certificate: the same one whoever asks, how often.
func (ca *fakeCA) finish(url, keyPEM string) (*bundle.Bundle, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	o := ca.orders[url]
	if o == nil || o.got != nil && o.key != keyPEM {
		return nil, errInvalidOrder
	}
	if o.got == nil {
		key, err := bundle.ParseKey([]byte(keyPEM))
		if err != nil {
			return nil, err
		}
		o.got, o.key = certify(ca.t, o.name, key, time.Now().Add(ca.life)), keyPEM
	}
	o.live = false
	return o.got, nil
}

package state

import (
	"errors"
	"io/fs"
	"time"

	"mxcert/acme/bundle"
)

// Order is an ACME order in flight (RFC 8555 section 7.1.3) with the private key of the certificate that it is for.
// Both are stored before they are used, so that after a crash mxcert finishes the order instead of paying for another.
type Order struct {
	Version   int            `json:"version"`
	URL       string         `json:"url,omitempty"` // empty if only the key exists, and the order is not placed yet
	Directory string         `json:"directory"`
	Account   string         `json:"account"` // account URL
	Names     []string       `json:"names"`
	KeyType   bundle.KeyType `json:"key_type"`
	Key       string         `json:"key"`             // PKCS #8 PEM
	Fresh     bool           `json:"fresh,omitempty"` // the key was made for this order
	Profile   string         `json:"profile,omitempty"`
	Finalized bool           `json:"finalized,omitempty"` // the CA is making the certificate, or has made it: it is paid for
	Created   time.Time      `json:"created"`
}

// Order reads the order in flight for a key type. ok is false if there is no order. A damaged record counts as no order:
// the CA returns the same pending order again, or a new one.
func (l *Lineage) Order(keyType bundle.KeyType) (order Order, ok bool, err error) {
	err = l.book.read(l.orderKey(keyType), &order)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return Order{}, false, nil
	}
	return order, err == nil, err
}

// SaveOrder stores an order durably.
func (l *Lineage) SaveOrder(order Order) error {
	order.Version = version
	return l.book.write(l.orderKey(order.KeyType), order)
}

// DropOrder forgets the order in flight for a key type.
func (l *Lineage) DropOrder(keyType bundle.KeyType) error {
	return l.book.store.Remove(l.orderKey(keyType))
}

func (l *Lineage) orderKey(keyType bundle.KeyType) string {
	return "orders/" + l.name + "." + string(keyType) + ".json"
}

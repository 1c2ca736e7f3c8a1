package pass

import (
	"fmt"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// incompleteError says that a stored certificate came without its issuer. An order never ends with such a certificate, but the tree of
// another client may hold one. Senders that verify would refuse it, so mxcert does not put it in service: it only keeps its key.
type incompleteError struct {
	name, serial string
	key          bundle.KeyType
	cause        error
}

// incomplete returns an error for the first certificate whose chain lacks the issuer, or nil.
func incomplete(want wanted.Certificate, bundles []*bundle.Bundle) error {
	for i, b := range bundles {
		if b == nil {
			continue
		}
		if err := b.Complete(want.Roots, time.Now()); err != nil {
			return &incompleteError{name: want.Name, serial: b.Serial(), key: want.Keys[i], cause: err}
		}
	}
	return nil
}

func (e *incompleteError) Error() string {
	return fmt.Sprintf("the stored %s certificate of %s (serial %s) is not put in service: %v", e.key, e.name, e.serial, e.cause)
}

// Kind is that of the fault.
func (e *incompleteError) Kind() string { return report.KindOf(e.cause) }

// Hint says how to get a certificate with its chain.
func (e *incompleteError) Hint() string {
	return fmt.Sprintf("mxcert renew %s orders a certificate with its chain, and keeps the key", e.name)
}

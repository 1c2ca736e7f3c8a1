package state

import (
	"errors"

	"mxcert/acme/bundle"
)

const (
	tlsaFile = "tlsa.json"
	nextKeys = "next"
)

// TLSA reads what is remembered about the TLSA records of the lineage. If v has a method Clean, it is called: it leaves out what mxcert does
// not write, and makes texts safe to print, because root reads what the service's user can write.
//
// A missing record is fs.ErrNotExist, a damaged one ErrDamaged. Then start anew: looks at DNS find out again what senders may hold. But nobody
// knows any more which records mxcert has added, so they count as somebody else's until the operator agrees to adopt them.
func (l *Lineage) TLSA(v any) error {
	err := l.book.read(l.key(tlsaFile), v)
	if c, ok := v.(interface{ Clean() }); ok && err == nil {
		c.Clean()
	}
	return err
}

// SaveTLSA stores what is remembered about the TLSA records, durably. Its version must be [Version]. A damaged record is set aside first: a
// person may find in it which records mxcert has added. One of a later mxcert is not replaced.
func (l *Lineage) SaveTLSA(v any) error {
	var before struct{}
	err := l.book.read(l.key(tlsaFile), &before)
	switch {
	case errors.Is(err, errLater):
		return err
	case errors.Is(err, ErrDamaged):
		if _, err := l.book.setAside(l.key(tlsaFile)); err != nil {
			return err
		}
	}
	return l.book.write(l.key(tlsaFile), v)
}

// TLSAFile returns the path of what is remembered about the TLSA records; "" for a store without files.
func (l *Lineage) TLSAFile() string { return l.book.store.Path(l.key(tlsaFile)) }

// SaveNext stores the next private key of a type, durably, in PEM. Records about it may be published only after that.
func (l *Lineage) SaveNext(key bundle.KeyType, pem []byte) error {
	return l.book.store.Replace(l.nextKey(key), pem)
}

// Next reads the next private key of a type. The error is fs.ErrNotExist if there is none.
func (l *Lineage) Next(key bundle.KeyType) ([]byte, error) { return l.book.store.Read(l.nextKey(key)) }

// DropNext removes the next private key of a type; it is not an error if there is none.
func (l *Lineage) DropNext(key bundle.KeyType) error { return l.book.store.Remove(l.nextKey(key)) }

func (l *Lineage) nextKey(key bundle.KeyType) string { return l.key(nextKeys, string(key)+".pem") }

package operation

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// authority is the CA of the account. Nothing ever asks it.
const authority = "https://ca.example/directory"

// BecomeOwner makes a process of root the owner of the store for good, as mxcert's commands do, if the operation is one on the store.
func (s Spec) BecomeOwner() error {
	if s.Action != StoreAdd || os.Geteuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(Group), syscall.Setuid(Owner))
}

// store does what a renewal does with the store, from opening it to removing what is old.
func (s Spec) store(b *bundle.Bundle) error {
	dir, err := state.Open(disk.Open(s.State()))
	if err != nil {
		return err
	}
	lineage := dir.Lineage(Name)
	unlock, err := lineage.Lock(context.Background())
	if err != nil {
		return err
	}
	defer unlock()
	record, _, err := lineage.Load()
	if err != nil {
		return err
	}
	if err := order(dir, lineage, b); err != nil {
		return err
	}
	g, err := lineage.Add(b, b.Leaf().DNSNames, authority, authority+"/order/1", time.Now())
	if err != nil {
		return err
	}
	slot := record.Slot(b.KeyType())
	slot.Previous, slot.Current = slot.Current, g.ID
	if err := lineage.Save(record); err != nil {
		return err
	}
	if err := lineage.DropOrder(b.KeyType()); err != nil {
		return err
	}
	return lineage.Prune(record, 1)
}

// order stores what an order needs before it uses it, and removes what it needs no more.
func order(dir *state.Book, lineage *state.Lineage, b *bundle.Bundle) error {
	if err := errors.Join(dir.SaveRunningConfig([]byte("acme:\n")), dir.SaveDaemon(map[string]int{"pid": 1})); err != nil {
		return err
	}
	if err := dir.SaveAccount(state.Account{Directory: authority, Key: string(b.KeyPEM()), Created: time.Now()}); err != nil {
		return err
	}
	if err := lineage.SaveOrder(state.Order{KeyType: b.KeyType(), Key: string(b.KeyPEM()), Names: b.Leaf().DNSNames, Created: time.Now()}); err != nil {
		return err
	}
	forget, err := lineage.Note(state.Entry{Provider: "rfc2136", Records: []state.TXT{{Domain: "mx.example.org", Name: "_acme-challenge.mx.example.org.", Zone: "example.org.", Value: "v"}}, Created: time.Now()})
	if err != nil {
		return err
	}
	return forget()
}

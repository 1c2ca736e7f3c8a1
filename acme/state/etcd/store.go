package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

// Read returns the value of a key.
func (s *Store) Read(key string) ([]byte, error) {
	v, err := s.Get(context.Background(), key)
	return v.Value, err
}

// Replace gives a key a value of at most 1 MiB.
func (s *Store) Replace(key string, value []byte) error {
	return s.failed("write", key, s.put(context.Background(), key, value))
}

func (s *Store) put(ctx context.Context, key string, value []byte, options ...clientv3.OpOption) error {
	if !valid(key) {
		return fs.ErrInvalid
	}
	if len(value) > maxValue {
		return errTooLarge
	}
	_, err := s.change(ctx, nil, []clientv3.Op{clientv3.OpPut(s.full(key), string(value), options...)})
	return err
}

var errTooLarge = errors.New("the value is larger than 1 MiB")

// Remove removes a key, or a folder, in one transaction.
func (s *Store) Remove(key string) error {
	if !valid(key) {
		return s.failed("remove", key, fs.ErrInvalid)
	}
	_, err := s.change(context.Background(), nil, []clientv3.Op{
		clientv3.OpDelete(s.full(key)), clientv3.OpDelete(s.below(key), clientv3.WithPrefix()),
	})
	return s.failed("remove", key, err)
}

// page is how many keys one request lists.
const page = 256

// List asks for the keys of a folder, page by page, at one revision; it steps over what is deeper.
func (s *Store) List(folder string) ([]string, error) {
	if !validFolder(folder) {
		return nil, s.failed("read", folder, fs.ErrInvalid)
	}
	names, err := s.list(folder)
	return names, s.failed("read", folder, err)
}

func (s *Store) list(folder string) (names []string, err error) {
	base := s.below(folder)
	end, from, revision := after(base), base, int64(0)
	for {
		answer, err := s.scan(context.Background(), from, end, revision, page, clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		revision = answer.Header.Revision
		for _, kv := range answer.Kvs {
			if name := element(strings.TrimPrefix(string(kv.Key), base)); (len(names) == 0 || names[len(names)-1] != name) && listed(name) {
				names = append(names, name)
			}
		}
		if !answer.More {
			return names, nil
		}
		last := strings.TrimPrefix(string(answer.Kvs[len(answer.Kvs)-1].Key), base)
		if from = base + last + "\x00"; strings.Contains(last, "/") {
			from = after(base + element(last))
		}
	}
}

// element returns the first element of a key, with its slash if it is a folder.
func element(key string) string {
	name, _, deeper := strings.Cut(key, "/")
	if deeper {
		return name + "/"
	}
	return name
}

func listed(name string) bool { return valid(strings.TrimSuffix(name, "/")) }

// scan asks for a page of a range.
func (s *Store) scan(ctx context.Context, from, end string, revision int64, limit int64, options ...clientv3.OpOption) (answer *clientv3.GetResponse, err error) {
	options = append(options, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(revision))
	err = s.call(ctx, reads, func(ctx context.Context) (err error) {
		answer, err = s.client.Get(ctx, from, options...)
		return err
	})
	return answer, err
}

// maxOps is how many operations etcd does in one transaction, by default.
const maxOps = 128

// Rename moves a value or a folder in one transaction, if nothing changed since it was read.
func (s *Store) Rename(from, to string) error {
	if !valid(from) || !valid(to) || strings.HasPrefix(to, from+"/") {
		return s.failed("rename", from, fs.ErrInvalid)
	}
	for {
		err := s.rename(from, to)
		if !errors.Is(err, state.ErrChanged) {
			return s.failed("rename", from, err)
		}
	}
}

func (s *Store) rename(from, to string) error {
	value, err := s.scan(context.Background(), s.full(from), s.full(from)+"\x00", 0, 1)
	if err != nil {
		return err
	}
	if len(value.Kvs) == 1 {
		if from == to {
			return nil
		}
		ifs, ops := move(value.Kvs[0], s.full(to))
		_, err := s.change(context.Background(), ifs, append(ops, clientv3.OpDelete(s.full(from))))
		return err
	}
	all, err := s.scan(context.Background(), s.below(from), after(s.below(from)), value.Header.Revision, maxOps)
	switch {
	case err != nil:
		return err
	case len(all.Kvs) == 0:
		return fs.ErrNotExist
	case from == to:
		return nil
	}
	return s.renameFolder(from, to, all)
}

func (s *Store) renameFolder(from, to string, all *clientv3.GetResponse) error {
	target := s.below(to)
	there, err := s.scan(context.Background(), target, after(target), 0, 1, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if len(there.Kvs) > 0 {
		return fs.ErrExist
	}
	ifs := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(target).WithRange(after(target)), "=", 0)}
	var ops []clientv3.Op
	for _, kv := range all.Kvs {
		same, put := move(kv, target+strings.TrimPrefix(string(kv.Key), s.below(from)))
		ifs, ops = append(ifs, same...), append(ops, put...)
	}
	ops = append(ops, clientv3.OpDelete(s.below(from), clientv3.WithPrefix()))
	if all.More || len(ifs) >= maxOps {
		return fmt.Errorf("the folder has %d values: that is too much for one transaction", all.Count)
	}
	_, err = s.change(context.Background(), ifs, ops)
	return err
}

// move returns what gives a value another key, with its lease, if it is still what was read.
func move(kv *mvccpb.KeyValue, to string) ([]clientv3.Cmp, []clientv3.Op) {
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision)},
		[]clientv3.Op{clientv3.OpPut(to, string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.Lease)))}
}

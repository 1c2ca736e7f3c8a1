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

// mostListed is how many names directly below a folder this process wants to have in its memory.
const mostListed = 100_000

// List asks for the keys of a folder, page by page, at one revision; it steps over what is deeper.
func (s *Store) List(folder string) (names []string, err error) {
	if !validFolder(folder) {
		return nil, s.failed("read", folder, fs.ErrInvalid)
	}
	err = s.bounded(func(ctx context.Context) error {
		names, err = s.list(ctx, s.below(folder))
		return err
	}, errCompacted)
	return names, s.failed("read", folder, err)
}

// bounded does something that needs several calls within the patience, again as long as it comes to an error.
func (s *Store) bounded(do func(context.Context) error, again error) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.patience)
	defer cancel()
	for {
		if err := do(ctx); !errors.Is(err, again) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Store) list(ctx context.Context, base string) (names []string, err error) {
	from, revision := base, int64(0)
	for {
		answer, err := s.scan(ctx, from, after(base), revision, page, clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		for _, kv := range answer.Kvs {
			name := element(strings.TrimPrefix(string(kv.Key), base))
			if known := len(names) > 0 && names[len(names)-1] == name; !known && valid(strings.TrimSuffix(name, "/")) {
				names = append(names, name)
			}
		}
		if len(names) > mostListed {
			return nil, errFlooded
		}
		if !answer.More {
			return names, nil
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		from = next(base, string(answer.Kvs[len(answer.Kvs)-1].Key))
	}
}

// next returns where the page after a key begins: after its folder, if that is below the one that is listed.
func next(base, last string) string {
	if name := element(strings.TrimPrefix(last, base)); strings.HasSuffix(name, "/") {
		return after(base + name)
	}
	return last + "\x00"
}

// element returns the first element of a key, with its slash if it is a folder.
func element(key string) string {
	name, _, deeper := strings.Cut(key, "/")
	if deeper {
		return name + "/"
	}
	return name
}

// scan asks for a page of a range.
func (s *Store) scan(ctx context.Context, from, end string, revision, limit int64, options ...clientv3.OpOption) (
	answer *clientv3.GetResponse, err error,
) {
	options = append(options, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(revision))
	err = s.call(ctx, repeats, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Get(ctx, from, options...)
		return err
	})
	return answer, err
}

// Rename moves a value or a folder in one transaction, if nothing has changed since it was read; otherwise it reads again. A folder has at most
// 120 values and about 1 MiB.
func (s *Store) Rename(from, to string) error {
	if !valid(from) || !valid(to) || strings.HasPrefix(to, from+"/") {
		return s.failed("rename", from, fs.ErrInvalid)
	}
	err := s.bounded(func(ctx context.Context) error { return s.rename(ctx, from, to) }, state.ErrChanged)
	return s.failed("rename", from, err)
}

func (s *Store) rename(ctx context.Context, from, to string) error {
	value, err := s.scan(ctx, s.full(from), s.full(from)+"\x00", 0, 1)
	if err != nil {
		return err
	}
	if len(value.Kvs) == 0 {
		return s.renameFolder(ctx, s.below(from), s.below(to))
	}
	if from == to {
		return nil
	}
	ifs, ops := move(value.Kvs, s.full(from), s.full(to))
	_, err = s.change(ctx, ifs, append(ops, clientv3.OpDelete(s.full(from))))
	return err
}

func (s *Store) renameFolder(ctx context.Context, from, to string) error {
	all, err := s.scan(ctx, from, after(from), 0, folderOps)
	switch {
	case err != nil:
		return err
	case len(all.Kvs) == 0:
		return fs.ErrNotExist
	case from == to:
		return nil
	case all.More:
		return fmt.Errorf("the folder has %d values: that is too much for one transaction", all.Count)
	}
	there, err := s.scan(ctx, to, after(to), 0, 1, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if len(there.Kvs) > 0 {
		return fs.ErrExist
	}
	ifs, ops := move(all.Kvs, from, to)
	// Nobody may have added a key: neither here, after what was read, nor there.
	ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(from).WithRange(after(from)), "<", all.Header.Revision+1),
		clientv3.Compare(clientv3.CreateRevision(to).WithRange(after(to)), "=", 0))
	_, err = s.change(ctx, ifs, append(ops, clientv3.OpDelete(from, clientv3.WithPrefix())))
	return err
}

// folderOps is how many values a folder can have, so that the transaction has at most 128 conditions with those of the fence: etcd's default.
const folderOps = 120

// move returns what gives values other keys, with their leases, if they are still what was read.
func move(values []*mvccpb.KeyValue, from, to string) (ifs []clientv3.Cmp, ops []clientv3.Op) {
	for _, kv := range values {
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
		ops = append(ops, clientv3.OpPut(to+strings.TrimPrefix(string(kv.Key), from), string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.Lease))))
	}
	return ifs, ops
}

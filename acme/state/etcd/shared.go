package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

// Get returns a value as the quorum has it.
func (s *Store) Get(ctx context.Context, key string) (state.Versioned, error) {
	if !valid(key) {
		return state.Versioned{}, s.failed("read", key, fs.ErrInvalid)
	}
	answer, err := s.scan(ctx, s.full(key), s.full(key)+"\x00", 0, 1)
	if err == nil && len(answer.Kvs) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return state.Versioned{}, s.failed("read", key, err)
	}
	v := s.versioned(answer.Kvs[0])
	if len(v.Value) > maxValue {
		return state.Versioned{}, s.failed("read", key, fmt.Errorf("%w: it has more than 1 MiB", state.ErrDamaged))
	}
	return v, nil
}

func (s *Store) versioned(kv *mvccpb.KeyValue) state.Versioned {
	v := state.Versioned{Key: strings.TrimPrefix(string(kv.Key), s.prefix), Value: kv.Value, Revision: kv.ModRevision}
	if v.Value == nil {
		v.Value = []byte{}
	}
	return v
}

// together is how many values one transaction reads.
const together = 100

// Many reads up to 100 keys in one transaction.
func (s *Store) Many(ctx context.Context, keys []string) ([]state.Versioned, error) {
	list := make([]state.Versioned, 0, len(keys))
	for len(keys) > 0 {
		n := min(len(keys), together)
		some, err := s.some(ctx, keys[:n])
		if err != nil {
			return nil, err
		}
		list, keys = append(list, some...), keys[n:]
	}
	return list, nil
}

func (s *Store) some(ctx context.Context, keys []string) ([]state.Versioned, error) {
	ops := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		if !valid(key) {
			return nil, s.failed("read", key, fs.ErrInvalid)
		}
		ops[i] = clientv3.OpGet(s.full(key))
	}
	var answer *clientv3.TxnResponse
	err := s.call(ctx, repeats, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Txn(ctx).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return nil, s.failed("read", keys[0], err)
	}
	list := make([]state.Versioned, len(keys))
	for i, key := range keys {
		list[i].Key = key
		if found := answer.Responses[i].GetResponseRange().Kvs; len(found) > 0 {
			list[i] = s.versioned(found[0])
		}
	}
	return list, nil
}

// Below reads a folder, page by page, at one revision. It leaves out what is no value of a store, such as the keys of locks.
func (s *Store) Below(ctx context.Context, folder string) (list []state.Versioned, revision int64, err error) {
	if !validFolder(folder) {
		return nil, 0, s.failed("read", folder, fs.ErrInvalid)
	}
	for {
		list, revision, err = s.values(ctx, s.below(folder))
		if !errors.Is(err, errCompacted) || ctx.Err() != nil {
			return list, revision, s.failed("read", folder, err)
		}
	}
}

// A page of values has about 2 MiB: the size of the page before says how many values that are. The first page has a few. A page that has more
// than 4 MiB, because strangers have put large values behind small ones, is not read; the next attempt asks for the fewest.
const (
	firstValues, leastValues, mostValues = 16, 2, 1000
	pageBytes                            = 2 << 20
	largestPage                          = 4 << 20 // more than the 1.5 MiB that one value can have, if etcd has its defaults

	mostBytes = 16 << 20 // of a folder; the largest of a fleet of 1,000 hosts has a fifth of it
)

// errFlooded is the error for a folder with more values than this process wants to have in its memory.
var errFlooded = fmt.Errorf("there are more than %d MiB of values, or %d names: remove those that are not mxcert's: %w",
	mostBytes>>20, mostListed, state.ErrDamaged)

func (s *Store) values(ctx context.Context, base string) (list []state.Versioned, revision int64, err error) {
	revision, err = s.pages(ctx, base, func(kv *mvccpb.KeyValue) {
		if v := s.versioned(kv); valid(v.Key) {
			list = append(list, v)
		}
	})
	if err != nil {
		return nil, revision, err
	}
	return list, revision, nil
}

// pages reads all keys that begin with a base, at the revision that it returns, also with an error.
func (s *Store) pages(ctx context.Context, base string, take func(*mvccpb.KeyValue)) (revision int64, err error) {
	from, limit, bytes := base, firstValues, 0
	for {
		answer, err := s.scan(context.WithValue(ctx, largestMark{}, largestPage), from, after(base), revision, int64(limit))
		if errors.Is(err, errLarge) && limit > 1 {
			limit = min(leastValues, limit-1)
			continue
		}
		if errors.Is(err, errLarge) && revision == 0 {
			answer, err = s.scan(ctx, base, after(base), 0, 1, clientv3.WithKeysOnly())
			if err == nil {
				revision, err = answer.Header.Revision, errLarge
			}
		}
		if err != nil {
			return revision, err
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		paged := 0
		for _, kv := range answer.Kvs {
			take(kv)
			paged += len(kv.Key) + len(kv.Value)
		}
		if bytes += paged; bytes > mostBytes {
			return revision, errFlooded
		}
		if !answer.More {
			return revision, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
		limit = min(max(pageBytes*len(answer.Kvs)/max(paged, 1), leastValues), mostValues)
	}
}

// Swap compares the revision of the key's last change.
func (s *Store) Swap(ctx context.Context, key string, revision int64, value []byte) (int64, error) {
	if !valid(key) {
		return 0, s.failed("write", key, fs.ErrInvalid)
	}
	if len(value) > maxValue {
		return 0, s.failed("write", key, errTooLarge)
	}
	now, err := s.change(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.full(key)), "=", revision)},
		[]clientv3.Op{clientv3.OpPut(s.full(key), string(value))})
	return now, s.failed("write", key, err)
}

// Identity returns the ID of the cluster in hexadecimal, as etcdctl shows it.
func (s *Store) Identity(ctx context.Context) (string, error) {
	answer, err := s.scan(ctx, s.prefix, after(s.prefix), 0, 1, clientv3.WithKeysOnly())
	if err != nil {
		return "", s.failed("read", "", err)
	}
	return strconv.FormatUint(answer.Header.ClusterId, 16), nil
}

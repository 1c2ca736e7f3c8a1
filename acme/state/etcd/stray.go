package etcd

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"mxcert/acme/state"
)

// mostStrays is how many strays are named.
const mostStrays = 100

// Strays looks at the keys of locks. A holder's ends with its lease, and is named after it. If strangers have written very much there, it names
// what it has found before.
func (s *Store) Strays(ctx context.Context) (list []state.Stray, err error) {
	folder := s.prefix + locks
	for err = errCompacted; errors.Is(err, errCompacted) && ctx.Err() == nil; {
		list = nil
		_, err = s.pages(ctx, folder, func(kv *mvccpb.KeyValue) {
			key := string(kv.Key)
			lock, _, is := strings.Cut(strings.TrimPrefix(key, folder), "//")
			if held := kv.Lease != 0 && strings.HasSuffix(key, "-"+strconv.FormatInt(kv.Lease, 16)); is && !held && valid(lock) && len(list) < mostStrays {
				list = append(list, state.Stray{Lock: lock, Key: key, Removal: removal(key, folder)})
			}
		})
	}
	if err != nil && !errors.Is(err, state.ErrDamaged) {
		return nil, s.failed("read", locks, err)
	}
	return list, nil
}

// removal is a command for a shell that removes a key; if strangers have put into it what a shell or a terminal might take for its own, all keys of
// locks: holders then see that theirs are lost, and try again.
func removal(key, folder string) string {
	if strings.Trim(strings.ToLower(key), "abcdefghijklmnopqrstuvwxyz0123456789-._/*:@+=, ") != "" {
		return "etcdctl del --prefix " + folder
	}
	return "etcdctl del '" + key + "'"
}

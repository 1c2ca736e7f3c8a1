package etcd

import (
	"io/fs"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/v3"

	"mxcert/acme/state"
)

// maxValue is the largest value, as in every store. A request of etcd has at most 1.5 MiB.
const maxValue = 1 << 20

// reserved begins elements of keys that are the store's own: those of locks.
const reserved = ".tmp-"

// locks is the folder of the keys of locks. No folder that a caller can remove holds one, so nobody loses a lock by that.
const locks = reserved + "locks/"

func valid(key string) bool {
	if !fs.ValidPath(key) || key == "." || strings.ContainsRune(key, 0) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(key, "/"), func(element string) bool {
		return len(element) > 255 || strings.HasPrefix(element, reserved)
	})
}

func validFolder(folder string) bool { return folder == "" || valid(folder) }

// full returns the key in etcd.
func (l *link) full(key string) string { return l.prefix + key }

// below returns what all keys in a folder begin with.
func (l *link) below(folder string) string {
	if folder == "" {
		return l.prefix
	}
	return l.prefix + folder + "/"
}

// after returns the first key after all that begin with a prefix.
func after(prefix string) string { return clientv3.GetPrefixRangeEnd(prefix) }

func (l *link) failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &state.Error{Op: op, Path: "etcd:" + l.full(key), Err: err}
}

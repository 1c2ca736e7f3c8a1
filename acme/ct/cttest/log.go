package cttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/acme/ct/sct"
)

// MostEntries limits the entries of a log: they all fit into the first tile of static-ct.
const MostEntries = 256

// entry is what a log has taken. A log that speaks both languages has the same leaves in both, with the index as the extension that
// static-ct asks for (c2sp.org/static-ct-api).
type entry struct {
	stamped []byte // TimestampedEntry (RFC 6962 section 3.4)
	pre     []byte // the pre-certificate; nil for a certificate
	issuer  []byte
}

func (e entry) leaf() []byte { return append([]byte{0, 0}, e.stamped...) }

func (e entry) hash() [32]byte { return sha256.Sum256(append([]byte{0}, e.leaf()...)) }

// extra is what RFC 6962 section 4.6 calls extra_data.
func (e entry) extra() []byte {
	chain := long(long(e.issuer))
	if e.pre != nil {
		return append(long(e.pre), chain...)
	}
	return chain
}

// tile is the entry as data tiles have it.
func (e entry) tile() []byte {
	out := bytes.Clone(e.stamped)
	if e.pre != nil {
		out = append(out, long(e.pre)...)
	}
	fingerprint := sha256.Sum256(e.issuer)
	return append(binary.BigEndian.AppendUint16(out, 32), fingerprint[:]...)
}

// long prefixes bytes with a length of three bytes.
func long(b []byte) []byte {
	return append([]byte{byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
}

// Take takes a certificate or pre-certificate into the log. Monitors wait minutes before they read a tile of static-ct that is not full: a
// log with MostEntries is read at once.
func (l *Log) Take(t testing.TB, c, issuer *x509.Certificate) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == MostEntries {
		t.Fatalf("a log for tests has %d entries at most", MostEntries)
	}
	e := entry{issuer: issuer.Raw, stamped: binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))} //nolint:gosec // after 1970
	if sct.IsPrecertificate(c) {
		tbs, err := sct.TBS(c)
		if err != nil {
			t.Fatal(err)
		}
		key := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
		e.pre, e.stamped = c.Raw, append(append(append(e.stamped, 0, 1), key[:]...), long(tbs)...)
	} else {
		e.stamped = append(append(e.stamped, 0, 0), long(c.Raw)...)
	}
	e.stamped = append(e.stamped, 0, 8, 0, 0, 5, 0, 0, 0, 0, byte(len(l.entries))) // the extension leaf_index
	l.entries = append(l.entries, e)
}

// Serve serves the log at an address in both languages: RFC 6962's, and static-ct's.
func (l *Log) Serve(t testing.TB) (address string) {
	t.Helper()
	id := sha256.Sum256(l.SPKI(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		entries := slices.Clone(l.entries)
		l.mu.Unlock()
		body, err := l.answer(r, id, entries)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

func (l *Log) answer(r *http.Request, id [32]byte, entries []entry) ([]byte, error) {
	hashes := make([][32]byte, 0, len(entries))
	for _, e := range entries {
		hashes = append(hashes, e.hash())
	}
	switch path := r.URL.Path; {
	case path == "/ct/v1/get-sth":
		now := uint64(time.Now().UnixMilli()) //nolint:gosec // after 1970
		root := root(hashes)
		signature, err := l.signHead(now, len(entries), root)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"tree_size": len(entries), "timestamp": now, "sha256_root_hash": root[:], "tree_head_signature": signature})
	case path == "/ct/v1/get-entries":
		return getEntries(r, entries)
	case path == "/ct/v1/get-proof-by-hash":
		return getProof(r, hashes)
	case path == "/checkpoint":
		return l.checkpoint(r.Host, id, hashes)
	case strings.HasPrefix(path, "/tile/data/000"):
		return firstTile(path, len(entries), func(i int) []byte { return entries[i].tile() })
	case strings.HasPrefix(path, "/tile/0/000"):
		return firstTile(path, len(entries), func(i int) []byte { return hashes[i][:] })
	case strings.HasPrefix(path, "/issuer/"):
		for _, e := range entries {
			if sum := sha256.Sum256(e.issuer); path == "/issuer/"+hex.EncodeToString(sum[:]) {
				return e.issuer, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no %q", r.URL.Path)
}

// signHead signs a tree head (RFC 6962 section 3.5).
func (l *Log) signHead(at uint64, size int, root [32]byte) ([]byte, error) {
	signed := binary.BigEndian.AppendUint64([]byte{0, 1}, at)
	signed = append(binary.BigEndian.AppendUint64(signed, uint64(size)), root[:]...) //nolint:gosec // positive
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, l.key, sum[:])
	return append([]byte{4, 3, 0, byte(len(signature))}, signature...), err
}

// checkpoint is the tree head as a signed note.
func (l *Log) checkpoint(origin string, id [32]byte, hashes [][32]byte) ([]byte, error) {
	now, root := uint64(time.Now().UnixMilli()), root(hashes) //nolint:gosec // after 1970
	signature, err := l.signHead(now, len(hashes), root)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256(append([]byte(origin+"\n\x05"), id[:]...))
	signature = append(binary.BigEndian.AppendUint64(name[:4:4], now), signature...)
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s %s\n", origin, len(hashes), encode(root[:]), origin, encode(signature)), nil
}

func getEntries(r *http.Request, entries []entry) ([]byte, error) {
	first, err := strconv.Atoi(r.URL.Query().Get("start"))
	last, err2 := strconv.Atoi(r.URL.Query().Get("end"))
	if err != nil || err2 != nil || first < 0 || first > last || first >= len(entries) {
		return nil, fmt.Errorf("there are %d entries", len(entries))
	}
	list := []map[string][]byte{}
	for _, e := range entries[first:min(last+1, len(entries))] {
		list = append(list, map[string][]byte{"leaf_input": e.leaf(), "extra_data": e.extra()})
	}
	return json.Marshal(map[string]any{"entries": list})
}

func getProof(r *http.Request, hashes [][32]byte) ([]byte, error) {
	size, err := strconv.Atoi(r.URL.Query().Get("tree_size"))
	wanted, err2 := base64.StdEncoding.DecodeString(r.URL.Query().Get("hash"))
	if err != nil || err2 != nil || size < 1 || size > len(hashes) || len(wanted) != 32 {
		return nil, fmt.Errorf("the tree has %d leaves", len(hashes))
	}
	i := slices.Index(hashes[:size], [32]byte(wanted))
	if i < 0 {
		return nil, fmt.Errorf("no leaf has this hash")
	}
	return json.Marshal(map[string]any{"leaf_index": i, "audit_path": path(i, hashes[:size])})
}

// firstTile returns the first tile, full or partial.
func firstTile(path string, size int, one func(i int) []byte) (tile []byte, err error) {
	n := MostEntries
	if _, width, partial := strings.Cut(path, "/000.p/"); partial {
		n, err = strconv.Atoi(width)
	}
	if err != nil || n < 1 || n > size {
		return nil, fmt.Errorf("there are %d entries", size)
	}
	for i := range n {
		tile = append(tile, one(i)...)
	}
	return tile, nil
}

// root is the hash of a tree (RFC 6962 section 2.1).
func root(hashes [][32]byte) [32]byte {
	switch n := len(hashes); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return hashes[0]
	default:
		left, right := root(hashes[:half(n)]), root(hashes[half(n):])
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
}

// path proves that a leaf is in a tree (RFC 6962 section 2.1.1).
func path(i int, hashes [][32]byte) [][]byte {
	n := len(hashes)
	if n == 1 {
		return nil
	}
	k := half(n)
	var proof [][]byte
	var other [32]byte
	if i < k {
		proof, other = path(i, hashes[:k]), root(hashes[k:])
	} else {
		proof, other = path(i-k, hashes[k:]), root(hashes[:k])
	}
	return append(proof, other[:])
}

// half is the largest power of two below n.
func half(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

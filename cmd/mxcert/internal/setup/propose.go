package setup

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// Target is where the certificate goes: one entry of `deploy`.
type Target struct {
	Kind  string
	Pairs []deploy.Pair // one for each type of key; a file with both has the same path twice
	Unit  string        // to reload; "" for none
	Group string        // of the files; "" for the default

	server Server // that reads them; its Kind is "" for files
}

// reads reports whether the server reads the files today.
func (t Target) reads() bool { return slices.Equal(t.server.Pairs, t.Pairs) }

const ec256 = "ec256"

// keysOf returns the types of key that the servers have today, in the order of the configuration: an ECDSA key, or an RSA key and no other,
// or both. Self-signed certificates do not count: nobody has chosen them.
func keysOf(servers []Server) []string {
	var ec, rsaKey string
	for _, s := range servers {
		for _, pair := range s.Pairs {
			switch key := keyOf(pair); {
			case strings.HasPrefix(key, "ec"):
				ec = key
			case key != "":
				rsaKey = key
			}
		}
		if ec != "" && rsaKey != "" {
			break
		}
	}
	switch {
	case ec != "" && rsaKey != "":
		return []string{ec, rsaKey}
	case rsaKey != "":
		return []string{rsaKey}
	}
	return []string{cmp.Or(ec, ec256)}
}

// keyOf returns the type of key of a pair of files, as the configuration calls it; "" if it cannot be read, or is self-signed.
func keyOf(pair deploy.Pair) string {
	loaded, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key)
	if err != nil || loaded.Leaf.CheckSignatureFrom(loaded.Leaf) == nil || loaded.Leaf.Issuer.String() == loaded.Leaf.Subject.String() {
		return ""
	}
	switch key := loaded.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize > 256 {
			return "ec384"
		}
		return ec256
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", min(4096, max(2048, key.N.BitLen()/1024*1024)))
	}
	return ""
}

// propose returns the targets for the servers. A server keeps the paths that it reads, unless another program owns them.
func propose(servers []Server, keys []string) (targets []Target) {
	for _, s := range servers {
		t := Target{Kind: s.Kind, Unit: s.Unit, server: s}
		if pairs, ok := inOrder(s.Pairs, keys); ok {
			t.Pairs = pairs
		} else {
			t.Pairs = newPairs(s.Kind, keys)
		}
		t.Group = groupFor(s, t.Pairs[0].Key)
		targets = append(targets, t)
	}
	return targets
}

// inOrder returns the pairs that a server reads in the order of the keys; ok is false if mxcert cannot keep them.
func inOrder(pairs []deploy.Pair, keys []string) (list []deploy.Pair, ok bool) {
	if len(pairs) != len(keys) {
		return nil, false
	}
	for _, pair := range pairs {
		if !mayWrite(pair.Certificate) || !mayWrite(pair.Key) {
			return nil, false
		}
	}
	if len(pairs) == 1 {
		return pairs, true
	}
	for _, key := range keys {
		i := slices.IndexFunc(pairs, func(p deploy.Pair) bool { return keyOf(p) == key })
		if i < 0 || pairs[i].Key == pairs[i].Certificate { // a list of combined files has no place in the configuration
			return nil, false
		}
		list = append(list, pairs[i])
	}
	return list, true
}

// ownersOfFiles are parts of paths whose files belong to another program: the certificate of the package ssl-cert, and other ACME clients.
func ownersOfFiles() []string {
	return []string{"snakeoil", "/etc/letsencrypt/", "/.acme.sh/", "/acme.sh/", "/.lego/", "/lego/certificates/", "/dehydrated/", "/etc/ssl/uacme/", "/caddy/", "/etc/ssl/certs/", "/usr/"}
}

// mayWrite reports whether mxcert can keep its own file at a path: a plain path in a directory that exists, not a symbolic link, and not a
// file of another program.
func mayWrite(path string) bool {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsAny(path, "${}") || strings.HasPrefix(path, "/var/lib/mxcert/") {
		return false
	}
	if slices.ContainsFunc(ownersOfFiles(), func(part string) bool { return strings.Contains(path, part) }) {
		return false
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return false
	}
	resolved, err := filepath.EvalSymlinks(filepath.Dir(path))
	return err == nil && !slices.ContainsFunc(ownersOfFiles(), func(part string) bool { return strings.Contains(resolved+"/", part) })
}

// newPairs returns paths in the directory of keys. Postfix gets one file with both, which changes at once.
func newPairs(kind string, keys []string) (pairs []deploy.Pair) {
	for _, key := range keys {
		base := keysDirectory + "mx"
		if len(keys) > 1 {
			base += "." + key
		}
		if kind == postfix {
			pairs = append(pairs, deploy.Pair{Certificate: base + ".pem", Key: base + ".pem"})
		} else {
			pairs = append(pairs, deploy.Pair{Certificate: base + ".crt", Key: base + ".key"})
		}
	}
	return pairs
}

// groupFor returns the group that may read a new key. Postfix and Dovecot read it as root, Exim after it has dropped root. The directory of
// keys has a group of its own.
func groupFor(s Server, key string) string {
	if s.Kind != exim || strings.HasPrefix(key, keysDirectory) {
		return ""
	}
	if u, err := user.Lookup(s.exim.User); err == nil {
		if g, err := user.LookupGroupId(u.Gid); err == nil {
			return g.Name
		}
	}
	return "Debian-exim"
}

// arrange puts targets with a group first: of two servers that read the same files, the first target writes them.
func arrange(targets []Target) {
	slices.SortStableFunc(targets, func(a, b Target) int { return len(b.Group) - len(a.Group) })
	for i := range targets {
		for j := range i {
			if slices.Equal(targets[i].Pairs, targets[j].Pairs) {
				targets[i].Group = ""
			}
		}
	}
}

// server returns the server of a kind; one that is not on this host is described by its usual unit.
func (h Host) server(kind string) Server {
	for _, s := range h.Servers {
		if s.Kind == kind {
			return s
		}
	}
	return Server{Kind: kind, Unit: unitOf(kind), reading: discover.Reading{Kind: kind}}
}

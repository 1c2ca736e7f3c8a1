package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"mxcert/acme/bundle"
)

// item is one path as it should be.
type item struct {
	path    string
	target  Target
	secret  bool // it holds the private key
	content []byte
	bundle  *bundle.Bundle

	link string // it is a symbolic link, and leads there
}

// The files of a generation directory.
const (
	fullchainFile = "fullchain.pem"
	privkeyFile   = "privkey.pem"
	combinedFile  = "combined.pem"
)

// serialMark stands for the serial number in the path of a combined file.
const serialMark = "{serial}"

// combined is the path of the combined file of a bundle.
func (t Target) combined(b *bundle.Bundle) string {
	if b == nil {
		return t.Combined
	}
	return strings.ReplaceAll(t.Combined, serialMark, b.Serial())
}

// items lists the files of a bundle at a target, the key before the certificate; a link is not among them.
func (t Target) items(b *bundle.Bundle) []item {
	var list []item
	for _, i := range []item{
		{path: t.PrivateKey, content: b.KeyPEM(), secret: true},
		{path: t.Certificate, content: b.FullchainPEM()},
		{path: t.combined(b), content: b.CombinedPEM(), secret: true},
	} {
		if i.target, i.bundle = t, b; i.path != "" {
			list = append(list, i)
		}
	}
	return list
}

// generation lists the files of a bundle in a generation directory.
func (t Target) generation(b *bundle.Bundle, dir string) []item {
	return []item{
		{path: filepath.Join(dir, privkeyFile), content: b.KeyPEM(), secret: true, target: t, bundle: b},
		{path: filepath.Join(dir, fullchainFile), content: b.FullchainPEM(), target: t, bundle: b},
		{path: filepath.Join(dir, combinedFile), content: b.CombinedPEM(), secret: true, target: t, bundle: b},
	}
}

// Files are all paths of a bundle at the target that a server may read: the places, what lies in the generation directory, and
// the compiled forms that an SNI map has.
func (t Target) Files(b *bundle.Bundle) []string {
	list := t.Places(b)
	if t.Directory != "" {
		for _, i := range t.generation(b, t.Directory) {
			list = append(list, i.path)
		}
	}
	for _, suffix := range []string{".db", ".lmdb", ".cdb", ".dir", ".pag"} {
		if path := t.mapPath() + suffix; t.SNIMap != "" && t.Kind == kindPostfix && exists(path) {
			list = append(list, path)
		}
	}
	return list
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// versioned reports whether the combined file has a name of its own for each certificate.
func (t Target) versioned() bool { return strings.Contains(t.Combined, serialMark) }

// pairs are the certificates and keys that a server finds at a target, given what lies at each path.
func (t Target) pairs(b *bundle.Bundle, at func(path string) []byte) [][2][]byte {
	var list [][2][]byte
	if t.Certificate != "" {
		list = append(list, [2][]byte{at(t.Certificate), at(t.PrivateKey)})
	}
	if t.Combined != "" {
		key, chain := splitCombined(at(t.combined(b)))
		list = append(list, [2][]byte{chain, key})
	}
	if t.Directory != "" {
		list = append(list, [2][]byte{at(filepath.Join(t.Directory, fullchainFile)), at(filepath.Join(t.Directory, privkeyFile))})
	}
	return list
}

// splitCombined takes the certificates out of a combined file; the rest is the key.
func splitCombined(content []byte) (key, chain []byte) {
	marker := []byte("-----BEGIN CERTIFICATE-----")
	end := []byte("-----END CERTIFICATE-----")
	first, last := bytes.Index(content, marker), bytes.LastIndex(content, end)
	if first < 0 || last < first {
		return content, nil
	}
	last += len(end)
	return append(bytes.Clone(content[:first]), content[last:]...), content[first:last]
}

package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/bundle"
)

// file is one path and what it should hold.
type file struct {
	path    string
	target  Target
	secret  bool // it holds the private key
	staple  bool // it holds the OCSP response
	served  bool // it is the copy of the OCSP response, see Target.OCSP
	content []byte
	link    string // it is a symbolic link, and leads there
}

// These are the files of a generation directory. No other package needs their names.
const (
	fullchainFile = "fullchain.pem"
	privkeyFile   = "privkey.pem"
	combinedFile  = "combined.pem"
)

// serialMark stands for the serial number in the path of a combined file.
const serialMark = "{serial}"

// Pair is a certificate and its key as a mail server opens them. A combined file has the same path twice.
type Pair struct {
	Certificate, Key string
}

// Pairs lists the ways in which a mail server can open a bundle at the target. The server needs one of them. If b is nil, {serial} stays in
// the paths.
func (t Target) Pairs(b *bundle.Bundle) []Pair { return slices.Concat(t.layouts(b)...) }

// layouts lists the ways to open the bundle, for each layout that the target has.
func (t Target) layouts(b *bundle.Bundle) [][]Pair {
	var list [][]Pair
	if t.Certificate != "" {
		list = append(list, []Pair{{t.Certificate, t.PrivateKey}})
	}
	if path := t.combined(b); path != "" {
		list = append(list, []Pair{{path, path}})
	}
	if t.Directory != "" {
		both := filepath.Join(t.Directory, combinedFile)
		list = append(list, []Pair{{filepath.Join(t.Directory, fullchainFile), filepath.Join(t.Directory, privkeyFile)}, {both, both}})
	}
	return list
}

// Places lists the paths of a bundle at the target, without the files of a generation directory. If b is nil, {serial} stays in the paths.
func (t Target) Places(b *bundle.Bundle) []string {
	return slices.DeleteFunc([]string{t.Certificate, t.PrivateKey, t.combined(b), t.Directory, t.mapPath(), t.OCSP, t.served()}, func(path string) bool { return path == "" })
}

// Files lists all paths of a bundle at the target that a server may read: the places, the files of the generation directory, and the
// compiled forms of an SNI map.
func (t Target) Files(b *bundle.Bundle) []string {
	list := t.Places(b)
	if t.Directory != "" {
		for _, f := range t.generation(nil, t.Directory) {
			list = append(list, f.path)
		}
	}
	for _, suffix := range compiledSuffixes() {
		if path := t.mapPath() + suffix; t.SNIMap != "" && t.Kind == kindPostfix && exists(path) {
			list = append(list, path)
		}
	}
	return list
}

// files lists the files of a bundle at the target, the key before the certificate. It leaves out links and generations. Without a bundle
// the files have no content.
func (t Target) files(b *bundle.Bundle) (list []file) {
	if t.PrivateKey != "" {
		list = append(list, file{path: t.PrivateKey, content: content(b, (*bundle.Bundle).KeyPEM), secret: true, target: t})
	}
	if t.Certificate != "" {
		list = append(list, file{path: t.Certificate, content: content(b, (*bundle.Bundle).FullchainPEM), target: t})
	}
	if path := t.combined(b); path != "" {
		list = append(list, file{path: path, content: content(b, (*bundle.Bundle).CombinedPEM), secret: true, target: t})
	}
	return list
}

// generation lists the files of a bundle in a generation directory, the key first.
func (t Target) generation(b *bundle.Bundle, dir string) []file {
	return []file{
		{path: filepath.Join(dir, privkeyFile), content: content(b, (*bundle.Bundle).KeyPEM), secret: true, target: t},
		{path: filepath.Join(dir, fullchainFile), content: content(b, (*bundle.Bundle).FullchainPEM), target: t},
		{path: filepath.Join(dir, combinedFile), content: content(b, (*bundle.Bundle).CombinedPEM), secret: true, target: t},
	}
}

// content returns one form of a bundle, or nil without a bundle.
func content(b *bundle.Bundle, form func(*bundle.Bundle) []byte) []byte {
	if b == nil {
		return nil
	}
	return form(b)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// combined returns the path of the combined file of a bundle.
func (t Target) combined(b *bundle.Bundle) string {
	if b == nil {
		return t.Combined
	}
	return strings.ReplaceAll(t.Combined, serialMark, b.Serial())
}

// versioned reports whether each certificate gets its own name for the combined file.
func (t Target) versioned() bool { return strings.Contains(t.Combined, serialMark) }

// content returns what the job wants at a path.
func (j Job) content(path string) []byte {
	for _, f := range append(j.Target.files(j.Bundle), j.Target.generation(j.Bundle, j.Target.Directory)...) {
		if f.path == path {
			return f.content
		}
	}
	return nil
}

// chainAndKey returns what a pair of files holds. at returns the content of each path.
func (p Pair) chainAndKey(at func(path string) []byte) (chain, key []byte) {
	if p.Certificate == p.Key {
		return splitCombined(at(p.Certificate))
	}
	return at(p.Certificate), at(p.Key)
}

// splitCombined takes the certificates out of a combined file. The rest is the key.
func splitCombined(content []byte) (chain, key []byte) {
	marker := []byte("-----BEGIN CERTIFICATE-----")
	end := []byte("-----END CERTIFICATE-----")
	first, last := bytes.Index(content, marker), bytes.LastIndex(content, end)
	if first < 0 || last < first {
		return nil, content
	}
	last += len(end)
	return content[first:last], append(bytes.Clone(content[:first]), content[last:]...)
}

package state

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"mxcert/acme/bundle"
)

// What is looked for in a damaged file, as JSON writes it. The expressions are large, and hardly ever needed.
const (
	keyInText = `-----BEGIN PRIVATE KEY-----[A-Za-z0-9+/=\\\s]+-----END PRIVATE KEY-----`
	urlInText = `"url":\s*"(https?://[!-~]{1,500}?)"`
)

// SalvageAccount looks for what remains of a damaged account file: the key, without which nobody finds the account
// again (RFC 8555 section 7.3.1), and the URL. Each is empty where it is lost. A file that was set aside serves where
// there is no other.
func (d *Dir) SalvageAccount(directory string) Account {
	account := Account{Directory: directory}
	path := d.accountPath(directory)
	text, err := os.ReadFile(path)
	if err != nil {
		if text, err = os.ReadFile(path + damagedSuffix); err != nil {
			return account
		}
	}
	key := []byte(strings.ReplaceAll(string(regexp.MustCompile(keyInText).Find(text)), `\n`, "\n") + "\n")
	if _, err := bundle.ParseKey(key); err == nil {
		account.Key = string(key)
	}
	if m := regexp.MustCompile(urlInText).FindSubmatch(text); m != nil {
		account.URL = string(m[1])
	}
	return account
}

// HasIssued reports whether a stored certificate came from a CA, whose account must have been here then.
func (d *Dir) HasIssued(directory string) bool {
	paths, _ := filepath.Glob(filepath.Join(d.path, "lineages", "*", "*", "meta.json")) // the pattern is well-formed
	for _, path := range paths {
		var g Generation
		if readJSON(path, &g) == nil && g.Directory == directory {
			return true
		}
	}
	return false
}

package state

import (
	"regexp"
	"strings"

	"mxcert/acme/bundle"
)

// What to look for in a damaged record, as JSON writes it. The expressions are large and hardly ever needed, so they are
// compiled only when they are needed.
const (
	keyInText = `-----BEGIN PRIVATE KEY-----[A-Za-z0-9+/=\\\s]+-----END PRIVATE KEY-----`
	urlInText = `"url":\s*"(https?://[!-~]{1,500}?)"`
)

// SalvageAccount looks for what remains of a damaged account record: the key, without which the account cannot be found again
// (RFC 8555 section 7.3.1), and the URL. Each is empty if it is lost. If there is no record, it looks at one that was set
// aside.
func (b *Book) SalvageAccount(directory string) Account {
	account := Account{Directory: directory}
	name := accountKey(directory)
	text, err := b.store.Read(name)
	if err != nil {
		if text, err = b.store.Read(name + damagedSuffix); err != nil {
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

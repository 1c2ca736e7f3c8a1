package state

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// longestName keeps the name of a folder, with a hash after it, well below the 255 bytes of a key's element.
const longestName = 120

// accountFolder returns the folder of a CA's account.
func accountFolder(directory string) string { return "accounts/" + accountName(directory) }

func accountKey(directory string) string { return accountFolder(directory) + "/" + accountFile }

// accountName names the folder of a CA's account after the CA's URL, so that a person finds it. If another URL could
// have the same name, a part of the URL's hash follows; no name without a hash contains "~".
func accountName(directory string) string {
	name := readable(directory)
	if len(name) <= longestName && "https://"+strings.ReplaceAll(name, "_", "/") == directory {
		return name
	}
	sum := sha256.Sum256([]byte(directory))
	return name[:min(len(name), longestName)] + "~" + hex.EncodeToString(sum[:4])
}

// readable returns host and path of a URL, without characters that are special to shells or file systems.
func readable(directory string) string {
	name := directory
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		name = u.Host + u.Path
	}
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r >= 'A' && r <= 'Z':
			return r
		}
		return '_'
	}, strings.Trim(name, "/"))
	return strings.TrimLeft(safe, ".")
}

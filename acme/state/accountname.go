package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const (
	accountFile = "account.json"
	// longestName keeps the name of a directory within what file systems take (255 bytes), with a hash after it.
	longestName = 120
)

// accountName names the directory of a CA's account after the CA's URL, so that a person finds it. Where another URL
// could have the same name, a part of the URL's hash follows; "~" is in no name without.
func accountName(directory string) string {
	name := readable(directory)
	if len(name) <= longestName && "https://"+strings.ReplaceAll(name, "_", "/") == directory {
		return name
	}
	sum := sha256.Sum256([]byte(directory))
	return name[:min(len(name), longestName)] + "~" + hex.EncodeToString(sum[:4])
}

// readable is host and path of a URL with nothing in it that is special to shells or file systems.
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

// accountDir is the directory of a CA's account. One that an earlier version named is taken as long as [Open] has not
// given it its name.
func (d *Dir) accountDir(directory string) string {
	dir := filepath.Join(d.path, "accounts", accountName(directory))
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir
	}
	earlier := filepath.Join(d.path, "accounts", readable(directory))
	var account Account
	if err := readJSON(filepath.Join(earlier, accountFile), &account); errors.Is(err, ErrDamaged) || err == nil && account.Directory == directory {
		return earlier
	}
	return dir
}

func (d *Dir) accountPath(directory string) string {
	return filepath.Join(d.accountDir(directory), accountFile)
}

// renameAccounts gives the directories of accounts that an earlier version made, under names that several CAs could
// share, the names that they have now.
func (d *Dir) renameAccounts() error {
	above := filepath.Join(d.path, "accounts")
	entries, err := os.ReadDir(above)
	if err != nil {
		return failed("read", above, err)
	}
	for _, e := range entries {
		var account Account
		from := filepath.Join(above, e.Name())
		if readJSON(filepath.Join(from, accountFile), &account) != nil || accountName(account.Directory) == e.Name() || readable(account.Directory) != e.Name() {
			continue
		}
		to := filepath.Join(above, accountName(account.Directory))
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		err := os.Rename(from, to)
		if err == nil {
			err = syncDir(above)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was faster
			return failed("rename", from, err)
		}
	}
	return nil
}

package adopt

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"mxcert/acme/finding"
)

// mostOfCommand caps the text of a hook, in bytes. A longer one is a script, which the operator reads in its own place.
const mostOfCommand = 1000

// match lists the files of a tree that fit a pattern, sorted. A tree that is not there is an error, and so is a directory on the way that
// cannot be read: it would look empty.
func match(root, pattern string) ([]string, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	found := []string{root}
	for element := range strings.SplitSeq(pattern, "/") {
		var next []string
		for _, dir := range found {
			entries, err := os.ReadDir(dir)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) && dir != root {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, entry := range entries {
				if fits, _ := path.Match(element, entry.Name()); fits { // the patterns are constants
					next = append(next, filepath.Join(dir, entry.Name()))
				}
			}
		}
		found = next
	}
	return found, nil
}

// read reads a file.
func read(file string) (Text, error) {
	text, err := readText(file)
	return Text{File: file, PEM: text}, err
}

// readText reads a file without the mark that some editors put before UTF-8.
func readText(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

// readEither reads the first of two files that can be read. The error is that of the first.
func readEither(first, second string) (Text, error) {
	text, err := read(first)
	if err != nil && second != "" {
		if other, again := read(second); again == nil {
			return other, nil
		}
	}
	return text, err
}

// readJSON reads a JSON document.
func readJSON(file string, v any) error {
	text, err := readText(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// isDir reports whether there is such a directory.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// samePath reports whether two paths are the same, as written.
func samePath(a, b string) bool { return a != "" && filepath.Clean(a) == filepath.Clean(b) }

// belongs reports whether a public key is that of a private key.
func belongs(public crypto.PublicKey, key crypto.Signer) bool {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(public)
}

// overHTTP is the note about a client that proved the names by HTTP.
func overHTTP(setting string) string {
	return setting + ": the names were proven by HTTP; mxcert proves them by TXT records, so the section dns needs a provider"
}

// hookOf proposes a script for a command that the other client runs.
func hookOf(setting, command, place string) string {
	return fmt.Sprintf("%s = %s: put a script with this line into /etc/mxcert/hooks/%s", setting, finding.Quote(command, mostOfCommand), place)
}

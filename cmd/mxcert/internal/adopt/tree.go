package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mxcert/acme/finding"
)

// mostOfCommand caps the text of a hook, in bytes. A longer one is a script, which the operator reads in its own place.
const mostOfCommand = 1000

// match lists the files of a tree that fit a pattern, sorted. Only a tree that is not there is an error.
func match(root, pattern string) ([]string, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	files, err := fs.Glob(os.DirFS(root), pattern) // not filepath.Glob: the root's own path is no pattern
	for i, file := range files {
		files[i] = filepath.Join(root, file)
	}
	return files, err
}

// readAll reads one certificate for each file. The error joins what could not be read; the rest is returned beside it.
func readAll(files []string, read func(file string) (Foreign, error)) ([]Foreign, error) {
	var list []Foreign
	var problems []error
	for _, file := range files {
		f, err := read(file)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list = append(list, f)
	}
	return list, errors.Join(problems...)
}

// readSettings reads a file of lines NAME = VALUE.
func readSettings(file, quote string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseSettings(string(text), quote), nil
}

// parseSettings reads lines NAME = VALUE, and removes quotes of the given kind around values. It skips all other lines.
func parseSettings(text, quote string) map[string]string {
	settings := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || strings.HasPrefix(name, "#") {
			continue
		}
		settings[name] = strings.Trim(strings.TrimSpace(value), quote)
	}
	return settings
}

// readEither reads the first of two files that can be read. The error is that of the first.
func readEither(first, second string) ([]byte, error) {
	text, err := os.ReadFile(first)
	if err != nil && second != "" {
		if other, again := os.ReadFile(second); again == nil {
			return other, nil
		}
	}
	return text, err
}

// hookOf proposes a script for a command that the other client runs.
func hookOf(setting, command, place string) string {
	return fmt.Sprintf("%s = %s: put a script with this line into /etc/mxcert/hooks/%s", setting, finding.Quote(command, mostOfCommand), place)
}

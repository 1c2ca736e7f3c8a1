package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// EximChange is a change of Exim's configuration files. It is not made yet: the package changes nothing.
type EximChange struct {
	files []*eximFile // all that were looked at, in the order in which Exim reads them
}

// ChangedFile is a file of Exim's configuration, before and after a change.
type ChangedFile struct {
	Path     string
	Exists   bool // before the change
	Old, New string
}

// Change plans how the files of the configuration make Exim read the certificate and key; the same path twice for a file with both.
// Macros that are defined already are replaced or overridden, because Exim refuses a second definition.
func (s EximSetup) Change(certificate, key string) (*EximChange, error) {
	if key == certificate {
		key = ""
	}
	if s.Macros == "" {
		return changeFile(s.ConfigFile, certificate, key)
	}
	return changeDebian(s.Macros, certificate, key)
}

// Files returns the files that change.
func (c *EximChange) Files() (list []ChangedFile) {
	for _, f := range c.files {
		if f.changed() {
			list = append(list, ChangedFile{Path: f.path, Exists: f.exists, Old: f.old, New: f.text()})
		}
	}
	return list
}

// Diff returns the lines that change; "" if there are none.
func (c *EximChange) Diff() string {
	var diff strings.Builder
	for _, f := range c.files {
		if !f.changed() {
			continue
		}
		fmt.Fprintf(&diff, "--- %s\n+++ %s\n", f.path, f.path)
		for _, h := range f.hunks {
			for _, line := range h.removed {
				fmt.Fprintf(&diff, "-%s\n", line)
			}
			for _, line := range h.added {
				fmt.Fprintf(&diff, "+%s\n", line)
			}
		}
	}
	return diff.String()
}

// words says what to do in each file, for an editor.
func (c *EximChange) words() string {
	var parts []string
	for _, f := range c.files {
		var steps []string
		for _, h := range f.hunks {
			switch removed, added := lines(h.removed), lines(h.added); {
			case h.top:
				steps = append(steps, "insert at the top "+added)
			case removed == "":
				steps = append(steps, "add "+added)
			case added == "":
				steps = append(steps, "remove "+removed)
			default:
				steps = append(steps, "replace "+removed+" by "+added)
			}
		}
		if len(steps) > 0 {
			parts = append(parts, "in "+f.path+": "+strings.Join(steps, "; "))
		}
	}
	return strings.Join(parts, "; ")
}

func lines(list []string) string {
	quoted := make([]string, len(list))
	for i, line := range list {
		quoted[i] = "`" + quote(line) + "`"
	}
	return strings.Join(quoted, ", ")
}

// changeDebian plans the change of Debian's files, given the file for macros.
func changeDebian(macros, certificate, key string) (*EximChange, error) {
	files, own, err := debianFiles(macros)
	if err != nil {
		return nil, err
	}
	if !setOptions(files, certificate, key) {
		macroEdit{own: files[own], earlier: files[:own], later: files[own+1:]}.apply(certificate, key)
	}
	return &EximChange{files: files}, nil
}

// changeFile plans the change of a configuration in one file.
func changeFile(path, certificate, key string) (*EximChange, error) {
	f, err := readEximFile(path)
	if err != nil {
		return nil, err
	}
	if !setOptions([]*eximFile{f}, certificate, key) {
		added := []string{"tls_certificate = " + certificate}
		if key != "" {
			added = append(added, "tls_privatekey = "+key)
		}
		f.insert(added...) // the main section comes first
	}
	return &EximChange{files: []*eximFile{f}}, nil
}

// byMacro matches the values with which Debian's own files set the options.
var byMacro = regexp.MustCompile(`^MAIN_TLS_\w+$`) //nolint:gochecknoglobals // a constant

// setOptions replaces tls_certificate and tls_privatekey if a file sets them without Debian's macros. Exim refuses an option that is set twice.
func setOptions(files []*eximFile, certificate, key string) (done bool) {
	literal := func(f *eximFile, name string) []definition {
		return slices.DeleteFunc(f.options(name), func(d definition) bool { return byMacro.MatchString(d.value) })
	}
	for _, f := range files {
		keys := literal(f, "tls_privatekey")
		if len(keys) > 0 {
			if key == "" {
				f.remove(keys)
			} else if keys[0].value != key {
				f.replace(keys[0], "tls_privatekey = "+key)
			}
		}
		for _, d := range literal(f, "tls_certificate")[:min(1, len(literal(f, "tls_certificate")))] {
			added := []string{"tls_certificate = " + certificate}
			if key != "" && !slices.ContainsFunc(files, func(f *eximFile) bool { return len(literal(f, "tls_privatekey")) > 0 }) {
				added = append(added, "tls_privatekey = "+key)
			}
			if d.value != certificate || len(added) > 1 {
				f.replace(d, added...)
			}
			done = true
		}
	}
	return done
}

// partName matches the files of conf.d/main that update-exim4.conf takes.
var partName = regexp.MustCompile(`^[0-9A-Za-z_-]+$`) //nolint:gochecknoglobals // a constant

// debianFiles reads the files that may define macros or set options, in the order in which Exim reads them. own is the index of the file for macros.
func debianFiles(macros string) (files []*eximFile, own int, err error) {
	directory := filepath.Dir(macros)
	names := []string{filepath.Base(macros), "exim4.conf.template"}
	if filepath.Base(directory) == "main" { // split into many files
		entries, err := os.ReadDir(directory)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, err
		}
		names = []string{filepath.Base(macros)}
		for _, e := range entries {
			if partName.MatchString(e.Name()) && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
		slices.Sort(names)
	}
	for i, name := range names {
		path := filepath.Join(directory, name)
		if path == macros {
			own = i
		} else if _, err := os.Stat(path + ".rul"); err == nil { // update-exim4.conf prefers it
			path += ".rul"
		}
		f, err := readEximFile(path)
		if err != nil {
			return nil, 0, err
		}
		files = append(files, f)
	}
	return files, own, nil
}

func readEximFile(path string) (*eximFile, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newEximFile(path, "", false), nil
	}
	return newEximFile(path, string(text), true), err
}

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mostFaults bounds what Inspect tells of.
const mostFaults = 50

// Fault is something in the directory that is not as mxcert leaves it.
type Fault struct {
	Path    string
	Message string
	Hint    string
	Grave   bool // it keeps mxcert from working
}

// Inspect looks through the directory, and changes nothing: files that are damaged, that were set aside, that a killed
// process left, or that belong to somebody else than the directory does. It tells of the first fifty. The error is that
// the directory itself cannot be looked at.
func (d *Dir) Inspect() ([]Fault, error) {
	top, err := os.Stat(d.path)
	if err != nil {
		return nil, failed("look at state directory", d.path, err)
	}
	var faults []Fault
	err = filepath.WalkDir(d.path, func(path string, entry fs.DirEntry, err error) error {
		if len(faults) >= mostFaults {
			return fs.SkipAll
		}
		if err != nil {
			if path == d.path {
				return err
			}
			faults = append(faults, Fault{Path: path, Message: fmt.Sprintf("it cannot be read: %v", bare(err)), Hint: "run doctor as root or as the user that owns the state directory", Grave: true})
			return nil //nolint:nilerr // it is among the faults
		}
		faults = append(faults, inspect(d.path, path, entry, top)...)
		return nil
	})
	return faults, failed("look at state directory", d.path, err)
}

// inspect looks at one file or directory.
func inspect(dir, path string, entry fs.DirEntry, top fs.FileInfo) []Fault {
	info, err := entry.Info()
	if err != nil {
		return nil // it has just gone
	}
	var faults []Fault
	if path == dir && info.Mode().Perm()&0o077 != 0 {
		faults = append(faults, Fault{Path: path, Message: fmt.Sprintf("its mode is %04o: others can look into it", info.Mode().Perm()), Hint: "the next renewal sets 0700"})
	}
	if was, is := owner(top), owner(info); was != is {
		faults = append(faults, Fault{Path: path, Message: fmt.Sprintf("it belongs to user %d, the state directory to user %d", is, was),
			Hint: fmt.Sprintf("chown -R %d %s", was, dir), Grave: was != 0})
	}
	name := entry.Name()
	switch {
	case entry.IsDir():
	case strings.HasPrefix(name, temporaryPrefix):
		faults = append(faults, Fault{Path: path, Message: "a process that was killed has left it", Hint: "the next pass removes it, or you may"})
	case strings.Contains(name, damagedSuffix):
		faults = append(faults, Fault{Path: path, Message: "it was damaged and set aside", Hint: "see whether you need anything of it, and remove it"})
	case isRecord(path):
		var anything map[string]any
		if err := readJSON(path, &anything); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, Fault{Path: path, Message: bare(err).Error(), Hint: "the next pass makes it again from what else is known, or asks for it", Grave: !errors.Is(err, ErrDamaged)})
		}
	}
	return faults
}

// isRecord knows the files that mxcert keeps its records in. daemon.json is written anew all the time.
func isRecord(path string) bool {
	switch filepath.Base(path) {
	case "account.json", "usage.json", "record.json", "meta.json":
		return true
	}
	in := filepath.Base(filepath.Dir(path))
	return filepath.Ext(path) == ".json" && (in == "orders" || in == "journal")
}

// bare is an error without the path that is told beside it.
func bare(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return err
}

func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

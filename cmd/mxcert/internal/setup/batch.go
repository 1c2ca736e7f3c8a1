package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// file is one file to write.
type file struct {
	path, text string
	mode       fs.FileMode
	uid, gid   int  // -1: those of any new file
	keep       bool // an older file stays under a second name
}

// old is how a file was before.
type old struct {
	file
	exists bool
}

// writeAll writes all files, or none: if one fails, it puts back what was there. It returns a line for each file that has changed.
func writeAll(list []file) (written []string, err error) {
	var done []old
	for _, f := range list {
		before, err := lookAt(f.path)
		if err != nil {
			return nil, errors.Join(err, putBack(done))
		}
		if before.exists && before.text == f.text && before.mode == f.mode {
			continue
		}
		line := f.path
		if before.exists && f.keep {
			if err := keepOld(f.path); err != nil {
				return nil, errors.Join(err, putBack(done))
			}
			line += fmt.Sprintf(" (the file before is %s.old)", f.path)
		}
		if err := WriteFile(f.path, f.text, f.mode, f.uid, f.gid); err != nil {
			return nil, errors.Join(err, putBack(done))
		}
		done, written = append(done, before), append(written, line)
	}
	return written, nil
}

func lookAt(path string) (old, error) {
	before := old{file: file{path: path, uid: -1, gid: -1}}
	info, err := os.Stat(path) // of what a link leads to: the file that is written has its mode
	if errors.Is(err, fs.ErrNotExist) {
		return before, nil
	}
	if err != nil {
		return before, err
	}
	text, err := os.ReadFile(path)
	before.exists, before.text, before.mode = true, string(text), info.Mode().Perm()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		before.uid, before.gid = int(stat.Uid), int(stat.Gid)
	}
	return before, err
}

func putBack(done []old) error {
	var problems []error
	for _, f := range slices.Backward(done) {
		if f.exists {
			problems = append(problems, WriteFile(f.path, f.text, f.mode, f.uid, f.gid))
		} else {
			problems = append(problems, os.Remove(f.path))
		}
	}
	return errors.Join(problems...)
}

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"
)

// version is written into every record. A higher one was written by a later mxcert and is refused.
const version = 1

// ErrDamaged is returned (wrapped) for a record that is not what mxcert writes.
var ErrDamaged = errors.New("the file is damaged")

// maxMarks is how many of the characters that precede values a record has at most: { and [ and commas. The text of an empty object is
// short, but a record of a hundred thousand of them takes much memory, and root's commands read what another user may write.
const maxMarks = 50_000

// parse reads a JSON text into v.
func parse(text []byte, v any) error {
	if bytes.Count(text, []byte{'{'})+bytes.Count(text, []byte{'['})+bytes.Count(text, []byte{','}) > maxMarks {
		return ErrDamaged
	}
	return json.Unmarshal(text, v)
}

// errLater is the cause if a record has a higher version.
var errLater = errors.New("a later mxcert wrote it")

// read reads a record into v. For a record of a later version, the error names the version; for a damaged one it is ErrDamaged.
func (b *Book) read(key string, v any) error {
	text, err := b.store.Read(key)
	if err != nil {
		return err
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := parse(text, &head); err != nil || head.Version < 1 {
		return b.failed("read", key, ErrDamaged)
	}
	if head.Version > version {
		return b.failed("read", key, fmt.Errorf("it has version %d, this mxcert knows up to %d: %w", head.Version, version, errLater))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return b.failed("read", key, ErrDamaged)
	}
	return nil
}

// write stores a record.
func (b *Book) write(key string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return b.failed("encode", key, err)
	}
	return b.store.Replace(key, append(text, '\n'))
}

const damagedSuffix = ".damaged"

// setAside keeps a damaged record under another name and returns the last element of that name; "" if it cannot be renamed. The
// name has a unique end if the shorter one is taken by something that it cannot replace, such as a directory.
func (b *Book) setAside(key string) (string, error) {
	var err error
	for _, aside := range []string{key + damagedSuffix, key + damagedSuffix + "-" + uniqueID(time.Now())} {
		err = b.store.Rename(key, aside)
		switch {
		case err == nil:
			return path.Base(aside), nil
		case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
			return "", nil
		}
	}
	return "", b.renamed("set aside", key, err)
}

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

var (
	errSymlink       = errors.New("it is a symbolic link; mxcert replaces files, and would replace the link")
	errNotRegular    = errors.New("it is not a regular file")
	errHardLink      = errors.New("it has more than one hard link; replacing it would leave the other name with the old content")
	errTooLarge      = errors.New("it is larger than any certificate or key")
	errWorldWritable = errors.New("everybody may write into this directory, and could put a key of his own there")
	errOldExpired    = errors.New("the certificate that was there before has expired")
)

// Error is a failure at one path.
type Error struct {
	Op, Path string
	Err      error
}

// Error says what was tried, where, and why it failed.
func (e *Error) Error() string { return fmt.Sprintf("cannot %s %s: %v", e.Op, e.Path, plain(e.Err)) }

// plain takes the path out of an error of package os: it is said already, and may be that of a temporary file.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok && p.Error() == err.Error() {
		return p.Err
	}
	if p, ok := errors.AsType[*os.LinkError](err); ok && p.Error() == err.Error() {
		return p.Err
	}
	return err
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind is permission, disk-full, read-only, missing-directory, refused or files.
func (e *Error) Kind() string {
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		return "permission"
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		return "disk-full"
	case errors.Is(e.Err, syscall.EROFS):
		return "read-only"
	case errors.Is(e.Err, fs.ErrNotExist):
		return "missing-directory"
	case errors.Is(e.Err, errSymlink), errors.Is(e.Err, errHardLink), errors.Is(e.Err, errNotRegular),
		errors.Is(e.Err, errWorldWritable), errors.Is(e.Err, errTooLarge):
		return "refused"
	}
	return "files"
}

// Hint says what to do.
func (e *Error) Hint() string {
	switch e.Kind() {
	case "permission":
		return "run mxcert as a user that may write there (root, or the owner of the directory); an immutable file shows in lsattr"
	case "disk-full":
		return "make room on that file system (df -h)"
	case "read-only":
		return "the file system is mounted read-only (findmnt -T " + e.Path + ")"
	case "missing-directory":
		return "make the directory first, so that its owner and group are your decision: install -d -m 2750 -g GROUP DIRECTORY"
	case "refused":
		switch {
		case errors.Is(e.Err, errWorldWritable):
			return "take that right away (chmod o-w " + e.Path + "), or configure a path elsewhere"
		case errors.Is(e.Err, errSymlink):
			return "configure the path that it points to, or remove it"
		}
		return "remove it, or configure another path"
	}
	if missing, ok := errors.AsType[*accountError](e.Err); ok {
		return fmt.Sprintf("mend `%s` in the deploy section, or make the %s", map[string]string{"user": "owner", "group": "group"}[missing.kind], missing.kind)
	}
	return "the files that were there before are untouched"
}

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	errSymlink         = errors.New("it is a symbolic link; mxcert replaces files, and would replace the link")
	errNoLink          = errors.New("it is a file or a directory; mxcert puts a symbolic link to a generation there")
	errLeadsElsewhere  = errors.New("it is a symbolic link that leads elsewhere, not to a generation that mxcert made")
	errNotDirectory    = errors.New("it is not a directory")
	errNotRegular      = errors.New("it is not a regular file")
	errHardLink        = errors.New("it has more than one hard link; replacing it would leave the other name with the old content")
	errTooLarge        = errors.New("it is larger than any certificate or key")
	errWorldWritable   = errors.New("everybody may write into this directory, and could put a key of his own there")
	errChanging        = errors.New("it is being replaced at this moment by another program")
	errNothingCompiled = errors.New("postmap has made no file")
	errNotCompiled     = errors.New("postmap has left out the lines of the certificate: does this type of table take files (postmap -F)?")
	errOldExpired      = errors.New("the certificate that was there before has expired")
)

// Error is a failure at one path.
type Error struct {
	Op, Path string
	Err      error
}

// Error says what was tried, where, and why it failed: the system's words, and its symbol of them (errno(3)).
func (e *Error) Error() string {
	text := fmt.Sprintf("cannot %s %s: %v", e.Op, e.Path, plain(e.Err))
	if number, ok := errors.AsType[syscall.Errno](e.Err); ok && unix.ErrnoName(number) != "" {
		text += " (" + unix.ErrnoName(number) + ")"
	}
	return text
}

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
	case isRefusal(e.Err):
		return "refused"
	}
	return "files"
}

// isRefusal reports whether an error is about what lies at a path, which is left alone.
func isRefusal(err error) bool {
	if _, ok := errors.AsType[*foreignError](err); ok {
		return true
	}
	for _, refusal := range []error{errSymlink, errHardLink, errNotRegular, errNotDirectory, errWorldWritable, errTooLarge, errNoLink, errLeadsElsewhere} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
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
		case errors.Is(e.Err, errNoLink), errors.Is(e.Err, errLeadsElsewhere):
			return "move it away first, or configure another path"
		case errors.Is(e.Err, errSymlink):
			return "configure the path that it points to, or remove it"
		}
		if foreign, ok := errors.AsType[*foreignError](e.Err); ok {
			return fmt.Sprintf("give it to root (chown root %s), or, where this is meant, write `owner: %s` in the deploy section", e.Path, userName(foreign.uid))
		}
		return "remove it, or configure another path"
	}
	if missing, ok := errors.AsType[*exec.Error](e.Err); ok {
		return fmt.Sprintf("install Postfix, whose program %s is needed for sni_map, or remove sni_map", missing.Name)
	}
	if missing, ok := errors.AsType[*accountError](e.Err); ok {
		return fmt.Sprintf("mend `%s` in the deploy section, or make the %s", map[string]string{"user": "owner", "group": "group"}[missing.kind], missing.kind)
	}
	return "the files that were there before are untouched"
}

// wrap names what was tried and where, unless the error does so already; nil stays nil.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*Error](err); done {
		return err
	}
	return &Error{Op: op, Path: path, Err: err}
}
